/** Places a build: a slot on a node for each of its platforms, and the certificate for it. */
import { describeError, HearthError, toHearthError } from '../../core/errors.ts'
import { buildCertificateMs } from '../../core/limits.ts'
import type { Logger } from '../../core/log.ts'
import { makeScope } from '../../core/scope.ts'
import type {
  PlaceBuildEvent,
  PlaceBuildRequest,
} from '../../proto/generated/hearth/v1/coordinator.ts'
import type { Authority, Caller } from '../access/index.ts'
import type { NodeControlPool, NodeDirectory } from '../nodes/index.ts'
import type { BuildRecord, NodeRecord, State } from '../state/index.ts'
import { type Choice, chooseNodes } from './choose-nodes.ts'
import { makeEndpoint } from './endpoint.ts'
import { requireOwnBuild } from './find-build.ts'
import { releaseLeases } from './release-leases.ts'

export interface PlaceBuildDeps {
  state: State
  authority: Authority
  directory: NodeDirectory
  control: NodeControlPool
  log: Logger
}

/**
 * Yields the place in the queue whenever it changes, and one placement per node. Left before the end, it
 * gives back what it got.
 */
export async function* placeBuild(
  deps: PlaceBuildDeps,
  caller: Caller,
  request: PlaceBuildRequest,
  options: { waitMs: number; signal: AbortSignal },
): AsyncGenerator<PlaceBuildEvent, void, void> {
  const build = requireOwnBuild(deps, caller, request.buildId)
  if (build.finishedAtMs !== undefined) {
    throw new HearthError('invalid-input', `the build ${build.id} is over`, {
      hint: 'open a new one',
    })
  }
  const asked: NodeRecord[] = []
  let complete = false
  try {
    for (const choice of await chooseNodes(deps, build, options)) {
      const { node, reason } = yield* leaseSlot(deps, build, choice, {
        ...options,
        onAsk: (candidate) => asked.push(candidate),
      })
      yield { event: await makePlacement(deps, build, node, { choice, reason }) }
    }
    complete = true
  } finally {
    if (!complete) await releaseLeases(deps, build.id, asked)
  }
}

/** Asks the chosen node, then the others, until one grants a slot. */
async function* leaseSlot(
  deps: PlaceBuildDeps,
  build: BuildRecord,
  choice: Choice,
  options: { onAsk: (node: NodeRecord) => void; signal: AbortSignal },
): AsyncGenerator<PlaceBuildEvent, { node: NodeRecord; reason: string }, void> {
  let refusal = new HearthError('unavailable', 'the chosen node has gone')
  for (const { nodeId, reason } of [choice, ...choice.runnersUp]) {
    const node = deps.directory.get(nodeId)
    if (node === undefined) continue
    options.onAsk(node)
    try {
      yield* queueAt(deps, build, node, options)
      return { node, reason }
    } catch (error) {
      options.signal.throwIfAborted()
      refusal = refusalOf(node, error)
      if (!isWorthAnother(refusal)) throw refusal
      deps.log.warn(
        { build: build.id, node: node.id, reason: describeError(error) },
        'a node gave no slot',
      )
    }
  }
  throw refusal
}

/** Ends when the slot is granted. */
async function* queueAt(
  deps: PlaceBuildDeps,
  build: BuildRecord,
  node: NodeRecord,
  options: { signal: AbortSignal },
): AsyncGenerator<PlaceBuildEvent, void, void> {
  const lease = deps.control.lease(
    node,
    {
      buildId: build.id,
      scope: makeScope(build.project, build.line),
      platform: node.platform,
      plans: [],
      expectedHits: [],
    },
    { timeoutMs: buildCertificateMs, signal: options.signal },
  )
  for await (const { event } of lease) {
    if (event?.$case === 'granted') return
    if (event?.$case === 'queued') {
      yield { event: { $case: 'queued', value: { ...event.value, nodeId: node.id } } }
    }
  }
  throw new HearthError('unavailable', `the node ${node.name} ended the queue without a slot`)
}

/** Nobody here has cancelled anything: a node that stops ends its calls so. */
function refusalOf(node: NodeRecord, thrown: unknown): HearthError {
  const error = toHearthError(thrown)
  if (error.code !== 'cancelled') return error
  return new HearthError('unavailable', `the node ${node.name} has stopped`, { cause: thrown })
}

function isWorthAnother(error: HearthError): boolean {
  return ['unavailable', 'exhausted', 'deadline', 'unauthenticated'].includes(error.code)
}

async function makePlacement(
  deps: PlaceBuildDeps,
  build: BuildRecord,
  node: NodeRecord,
  { choice, reason }: { choice: Choice; reason: string },
): Promise<PlaceBuildEvent['event']> {
  deps.directory.noteLease(node.id)
  const scope = makeScope(build.project, build.line)
  const certificate = await deps.authority.issue(
    { type: 'client', scope, buildId: build.id },
    build.clientPublicKey,
    buildCertificateMs,
  )
  const known = deps.state.builds.get(build.id)?.nodeIds ?? []
  deps.state.builds.update(build.id, {
    nodeIds: [...new Set([...known, node.id])],
    certificateUntilMs: certificate.expiresAtMs,
  })
  return {
    $case: 'placement',
    value: {
      platforms: choice.platforms.length === 0 ? [node.platform] : [...choice.platforms],
      endpoint: makeEndpoint(node, deps.authority.caPem, certificate),
      reason,
    },
  }
}
