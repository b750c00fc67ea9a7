/** Places a build: a slot on a node for each of its platforms, and the certificate for it. */
import { describeError, HearthError, toHearthError } from '../../core/errors.ts'
import { buildCertificateMs } from '../../core/limits.ts'
import type { Logger } from '../../core/log.ts'
import { makeScope } from '../../core/scope.ts'
import type {
  PlaceBuildEvent,
  PlaceBuildRequest,
} from '../../proto/generated/hearth/v1/coordinator.ts'
import type { LeaseRequest } from '../../proto/generated/hearth/v1/node.ts'
import type { Authority, Caller } from '../access/index.ts'
import type { NodeControlPool } from '../nodes/index.ts'
import { estimateWork } from '../routing/index.ts'
import type { BuildRecord, NodeRecord, State } from '../state/index.ts'
import { buildsLookedAt, type Choice, type ChooseDeps, chooseNodes } from './choose-nodes.ts'
import { keepDecision } from './decision.ts'
import { makeEndpoint } from './endpoint.ts'
import { requireOwnBuild } from './find-build.ts'
import { releaseLeases } from './release-leases.ts'
import type { ExpectedBuild } from './under-way.ts'

export interface PlaceBuildDeps extends ChooseDeps {
  authority: Authority
  control: NodeControlPool
  log: Logger
}

/** A bake has one for each target and platform. */
const plansMax = 200

/** What a build takes of which nothing is known. */
const unknownBuildMs = 30_000

/**
 * Yields the place in the queue whenever it changes, and one placement per node. Left before the end, it
 * gives back what it got.
 */
export async function* placeBuild(
  deps: PlaceBuildDeps,
  caller: Caller,
  request: PlaceBuildRequest,
  options: { nowMs: number; waitMs: number; signal: AbortSignal },
): AsyncGenerator<PlaceBuildEvent, void, void> {
  const build = requireOwnBuild(deps, caller, request.buildId)
  if (build.finishedAtMs !== undefined) {
    throw new HearthError('invalid-input', `the build ${build.id} is over`, {
      hint: 'open a new one',
    })
  }
  const scope = makeScope(build.project, build.line)
  const plans = request.plans.slice(0, plansMax)
  const asked: NodeRecord[] = []
  let complete = false
  try {
    const choices = await chooseNodes(deps, { scope, platforms: build.platforms, plans }, options)
    for (const choice of choices) {
      const { node, reason } = yield* leaseSlot(deps, build, choice, {
        ...options,
        onAsk: (candidate) => asked.push(candidate),
      })
      yield { event: await makePlacement(deps, build, node, { choice, reason, ...options }) }
    }
    complete = true
  } finally {
    if (!complete) {
      deps.outlook.underWay.ended(build.id)
      await releaseLeases(deps, build.id, asked)
    }
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
    deps.outlook.underWay.placed(build.id, expectOn(deps, build, choice, nodeId))
    try {
      yield* queueAt(deps, build, node, { ...options, choice })
      deps.outlook.underWay.granted(build.id, nodeId)
      return { node, reason }
    } catch (error) {
      deps.outlook.underWay.left(build.id, nodeId)
      options.signal.throwIfAborted()
      refusal = refusalOf(node, error)
      if (refusal.code === 'unavailable' || refusal.code === 'deadline') {
        deps.outlook.silent.note(nodeId)
      }
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
  options: { choice: Choice; signal: AbortSignal },
): AsyncGenerator<PlaceBuildEvent, void, void> {
  const lease = deps.control.lease(
    node,
    {
      buildId: build.id,
      scope: makeScope(build.project, build.line),
      platform: node.platform,
      ...whatToExpect(options.choice, node.id),
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

/** Without a forecast nothing is expected of the steps, but what the client has read is told. */
function whatToExpect(
  { forecast, plans }: Choice,
  nodeId: string,
): Pick<LeaseRequest, 'plans' | 'expectedHits'> {
  if (forecast === undefined) {
    return { plans: plans.map((plan) => ({ ...plan, steps: [] })), expectedHits: [] }
  }
  const { runs } = estimateWork(forecast.steps, forecast.warmth(nodeId))
  const hits = forecast.planned.filter(({ key }, row) => key !== '' && runs[row] === false)
  return { plans: [...forecast.plans], expectedHits: hits.map(({ key }) => key) }
}

function expectOn(
  deps: PlaceBuildDeps,
  build: BuildRecord,
  choice: Choice,
  nodeId: string,
): ExpectedBuild {
  const { forecast } = choice
  const priced = [choice, ...choice.runnersUp].find((each) => each.nodeId === nodeId)
  if (forecast === undefined || priced === undefined) {
    return { nodeId, workMs: usualDurationMs(deps.state, build), plans: [], layersMs: 0 }
  }
  const { moveMs = 0, unpackMs = 0, runMs = 0, aroundMs = 0 } = priced.estimate
  const workMs = unpackMs + runMs + aroundMs
  return { nodeId, workMs, plans: forecast.plans, layersMs: moveMs + unpackMs }
}

/** What the project's last builds took, at the median. */
function usualDurationMs(state: State, { project }: BuildRecord): number {
  const took = state.builds
    .list({ project, limit: buildsLookedAt })
    .filter(({ finishedAtMs }) => finishedAtMs !== undefined)
    .map(({ durationMs }) => durationMs)
    .sort((a, b) => a - b)
  return took[took.length >> 1] ?? unknownBuildMs
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
  { choice, reason, nowMs }: { choice: Choice; reason: string; nowMs: number },
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
  const platforms = choice.platforms.length === 0 ? [node.platform] : [...choice.platforms]
  const placed = { buildId: build.id, choice, nodeId: node.id, platforms, decidedAtMs: nowMs }
  keepDecision(deps, placed)
  return {
    $case: 'placement',
    value: {
      platforms,
      endpoint: makeEndpoint(node, deps.authority.caPem, certificate),
      reason,
    },
  }
}
