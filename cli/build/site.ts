/**
 * Where a build runs: on the nodes that the coordinator chose; while it is away on the last nodes it chose; else
 * on this machine's own builder. Every step down is said.
 */
import { HearthError } from '../../core/errors.ts'
import type { Build } from '../../proto/generated/hearth/v1/build.ts'
import type { Plan } from '../../proto/generated/hearth/v1/plan.ts'
import type { Connection } from '../connection.ts'
import { connectCoordinator } from '../coordinator-client.ts'
import type { PlannerNode } from '../plan/plan-at-nodes.ts'
import type { Terminal } from '../terminal.ts'
import type { InstanceNode } from './instance.ts'
import { findLocalBuilder, type LocalBuilder } from './local-builder.ts'
import { answers } from './node-answers.ts'
import { trackBuild } from './opened-build.ts'
import { makeBuildKey, openBuild, placeBuild } from './placement.ts'
import { createQueueNotice } from './queue-notice.ts'
import { loadStandby, type StandbyEndpoint, type StandbyKey } from './standby.ts'
import type { BuildEnding } from './summary.ts'

export type BuildSite = AsyncDisposable & {
  /** Tells the coordinator, where one knows of the build. Undefined: it does not, or does not answer. */
  finish(ending: BuildEnding, durationMs: number): Promise<Build | undefined>
} & (
    | ({
        readonly type: 'placed'
        readonly buildId: string
        readonly project: string
        readonly standby: readonly StandbyEndpoint[]
      } & RemoteBuilder)
    | ({ readonly type: 'standby' } & RemoteBuilder)
    | { readonly type: 'local'; readonly builder: LocalBuilder }
  )

interface RemoteBuilder {
  readonly nodes: readonly InstanceNode[]
  readonly privateKeyPem: string
}

export interface SiteRequest {
  readonly connection: Connection
  readonly project: string
  /** Nobody named the project: the token's own one counts instead, if the token has one. */
  readonly projectGuessed: boolean
  readonly platforms: readonly string[]
  readonly command: string
  readonly buildx: string
  /** What the build is going to do, as far as it can be said soon. Default: nothing is said. */
  readonly plan?: (
    at: { planners: readonly PlannerNode[]; privateKeyPem: string },
    options: { signal: AbortSignal },
  ) => Promise<readonly Plan[]>
}

// The slot of a build that has just ended is often free again a moment later.
const queueQuietMs = 500

/** @throws HearthError when there is nowhere to build, or the coordinator refuses. */
export async function findSite(
  terminal: Terminal,
  request: SiteRequest,
  options: { signal: AbortSignal },
): Promise<BuildSite> {
  try {
    return await placedSite(terminal, request, options)
  } catch (error) {
    if (options.signal.aborted) throw options.signal.reason
    if (!isAway(error)) throw error
    terminal.note(`hearth: ${error.message}`)
    const standby = await standbySite(terminal, request)
    return standby ?? (await localSite(terminal, request, error, options))
  }
}

async function placedSite(
  terminal: Terminal,
  request: SiteRequest,
  options: { signal: AbortSignal },
): Promise<BuildSite> {
  await using unfinished = new AsyncDisposableStack()
  const client = unfinished.use(connectCoordinator(request.connection))
  const key = await makeBuildKey()
  const open = (project: string) =>
    openBuild(client, { ...request, project, key }, { signal: options.signal })
  const { buildId, project, standby, planners } = await open(request.project).catch(
    (error: unknown) => {
      const forbidden = error instanceof HearthError && error.code === 'forbidden'
      if (forbidden && request.projectGuessed) return open('')
      throw error
    },
  )
  const opened = unfinished.use(trackBuild(client, buildId))
  const at = { planners, privateKeyPem: key.privateKeyPem }
  const plans = planners.length === 0 ? [] : ((await request.plan?.(at, options)) ?? [])
  using notice = createQueueNotice(terminal, { quietMs: queueQuietMs })
  const nodes = await placeBuild(
    client,
    { buildId, plans },
    { signal: options.signal, onQueued: notice.moved },
  )
  const owned = unfinished.move()
  return {
    type: 'placed',
    buildId,
    project: project || request.project,
    nodes,
    standby,
    privateKeyPem: key.privateKeyPem,
    finish: opened.finish,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

async function standbySite(
  terminal: Terminal,
  request: SiteRequest,
): Promise<BuildSite | undefined> {
  const key: StandbyKey = { coordinator: request.connection.address, project: request.project }
  const kept = await loadStandby(terminal.env, key, new Date())
  if (kept === undefined) return undefined
  const alive = await Promise.all(kept.endpoints.map(({ address }) => answers(address)))
  const endpoints = kept.endpoints.filter((_, index) => alive[index])
  if (endpoints.length === 0) return undefined
  const names = endpoints.map((endpoint) => endpoint.nodeId).join(', ')
  terminal.note(`  building on the last known node instead: ${names}`)
  return {
    type: 'standby',
    ...unknownToCoordinator,
    privateKeyPem: kept.privateKeyPem,
    nodes: endpoints.map((endpoint) => ({ ...endpoint, platforms: [] })),
  }
}

async function localSite(
  terminal: Terminal,
  request: SiteRequest,
  reason: HearthError,
  options: { signal: AbortSignal },
): Promise<BuildSite> {
  const builder = await findLocalBuilder(request.buildx, terminal.env, options)
  if (builder === undefined) {
    throw new HearthError('unavailable', 'no other builder can be used: nothing was built', {
      hint: `start the coordinator ("hearth up" on its machine), or a local Docker`,
      cause: reason,
    })
  }
  terminal.note(
    `  building on this machine's own builder "${builder.name}" (${builder.driver}) instead, ` +
      "without Hearth's cache",
  )
  return { type: 'local', ...unknownToCoordinator, builder }
}

const unknownToCoordinator = {
  finish: async () => undefined,
  async [Symbol.asyncDispose]() {},
}

function isAway(error: unknown): error is HearthError {
  return error instanceof HearthError && (error.code === 'unavailable' || error.code === 'deadline')
}
