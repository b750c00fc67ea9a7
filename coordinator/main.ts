/**
 * The coordinator: who may build, where, and what became of it. One process over one data folder, reached by
 * clients and nodes at one address over TLS. Build traffic never passes through it.
 */
import { toHearthError } from '../core/errors.ts'
import { lockFolder } from '../core/folder-lock.ts'
import { claimDataFolder } from '../core/format-version.ts'
import { formatAddress, startGrpcServer } from '../core/grpc-server.ts'
import type { Logger } from '../core/log.ts'
import type { RelayOptions } from '../mesh/index.ts'
import {
  AdminService,
  BuildsService,
  MembershipService,
} from '../proto/generated/hearth/v1/coordinator.ts'
import { createTokens, openAuthority, readOperatorToken } from './access/index.ts'
import { createOutlook, createReportDesk } from './builds/index.ts'
import {
  historyBuildsMax,
  historyMs,
  solvesPerBuildMax,
  heartbeatMs as usualHeartbeatMs,
} from './limits.ts'
import { openCoordinatorMesh } from './mesh/index.ts'
import { createNodeControlPool, createNodeDirectory } from './nodes/index.ts'
import { createStepHeat } from './routing/index.ts'
import {
  createAdminService,
  createBuildsService,
  createMembershipService,
} from './services/index.ts'
import { openState } from './state/index.ts'
import { startUpkeep } from './upkeep.ts'

export interface CoordinatorOptions {
  /** Data folder; made if needed, and this coordinator's alone while it runs. */
  folder: string
  /** Port 0: any free one. */
  listen: { host: string; port: number }
  /** Of its peer in the mesh. Port 0: the one of the last time, else any free one. Default: so, on the same host. */
  meshListen?: { host: string; port: number } | undefined
  /** When and how a large mesh relays. Default: mesh/limits.ts. */
  relay?: RelayOptions
  log: Logger
  /** Gives the start up. A coordinator that runs is stopped by disposing of it. */
  signal: AbortSignal
  /** How often nodes call; three missed calls make a node offline. Default: 5,000. */
  heartbeatMs?: number
  /** How often lost builds and what is too old are looked for. Default: 60,000. */
  upkeepMs?: number
}

export interface Coordinator extends AsyncDisposable {
  /** "host:port" for clients and nodes on this machine: loopback where it listens on every address. */
  readonly address: string
  readonly port: number
  /** The authority that vouches for the coordinator and its nodes. */
  readonly caPem: string
  /** The operator's token of this machine: made at the first start, the same at the next ones. */
  readonly adminToken: string
  /** Lets one node in, within an hour. */
  newJoinToken(): Promise<string>
}

/**
 * @throws HearthError `environment` when the folder is in use or the port is taken, `version` when a newer
 *   Hearth made the folder, `corrupt` when what lies in it cannot be read.
 */
export async function startCoordinator(options: CoordinatorOptions): Promise<Coordinator> {
  const { folder, log, signal } = options
  const heartbeatMs = options.heartbeatMs ?? usualHeartbeatMs
  const now = Date.now
  await using stack = new AsyncDisposableStack()

  signal.throwIfAborted()
  try {
    await claimDataFolder(folder, 'coordinator')
  } catch (error) {
    throw toHearthError(error, `use the data folder ${folder}`)
  }
  stack.use(await lockFolder(folder, 'a coordinator'))
  const history = { buildsMax: historyBuildsMax, ageMs: historyMs, solvesPerBuildMax }
  const state = stack.use(openState({ folder, history }))
  const authority = await openAuthority({ folder })
  const identity = await authority.issueOwn()
  const tokens = createTokens({ state })
  const adminToken = await readOperatorToken({ tokens }, folder)
  const directory = createNodeDirectory({ state, log }, { heartbeatMs })
  stack.defer(() => directory.keep())
  const control = stack.use(createNodeControlPool(identity))
  const mesh = stack.use(
    await openCoordinatorMesh(
      { state, log },
      {
        ...{ folder, now, listen: options.meshListen ?? { host: options.listen.host, port: 0 } },
        ...(options.relay === undefined ? {} : { relay: options.relay }),
      },
    ),
  )
  const peerOf = (nodeId: string) => directory.get(nodeId)?.peerId
  const isGone = (nodeId: string) => {
    const peerId = peerOf(nodeId)
    return peerId !== undefined && !mesh.isPresent(peerId)
  }
  const heat = createStepHeat({ index: mesh.mesh.index, peerOf })
  const outlook = createOutlook({ directory, heat, isGone }, { heartbeatMs, now })
  const reports = createReportDesk({ state, rates: outlook.rates, log }, { now })

  signal.throwIfAborted()
  const deps = { state, tokens, authority, directory, control, mesh, outlook, reports, log }
  const server = stack.use(
    await startGrpcServer({
      ...options.listen,
      identity,
      // Clients have a token and no certificate yet; nodes show theirs.
      callerCertificates: 'optional',
      services: [
        [BuildsService, createBuildsService(deps, { now })],
        [AdminService, createAdminService(deps, { now })],
        [MembershipService, createMembershipService(deps, { heartbeatMs })],
      ],
    }),
  )
  stack.use(
    startUpkeep(
      { ...deps, server },
      {
        identity,
        now,
        ...(options.upkeepMs === undefined ? {} : { intervalMs: options.upkeepMs }),
      },
    ),
  )
  const address = formatAddress(reachableHost(server.host), server.port)
  log.info({ address, folder }, 'the coordinator is ready')

  const running = stack.move()
  return {
    address,
    port: server.port,
    caPem: authority.caPem,
    adminToken,
    newJoinToken: async () => tokens.createJoin().token,
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  }
}

/** Where to reach, from this machine, what listens on this host. */
function reachableHost(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1'
  return host === '::' ? '::1' : host
}
