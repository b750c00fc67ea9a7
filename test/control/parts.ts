/**
 * A real coordinator and real nodes over TLS on loopback, driven by generated clients. Only BuildKit is left
 * out: a node here has a scheduler, a cache store, records and its control service, and daemons that are none.
 */
import { generateKeyPairSync, type KeyObject } from 'node:crypto'
import path from 'node:path'
import { type ClientOptions, credentials, Metadata } from '@grpc/grpc-js'
import type { ExecutionContext } from 'ava'
import { startCoordinator } from '../../coordinator/main.ts'
import { HearthError } from '../../core/errors.ts'
import { formatVersions } from '../../core/format-version.ts'
import { callStream, callUnary } from '../../core/grpc-call.ts'
import { formatAddress, type TlsIdentity } from '../../core/grpc-server.ts'
import { coordinatorServerName } from '../../core/identity.ts'
import { type Logger, silentLogger } from '../../core/log.ts'
import { makeScope, type Scope } from '../../core/scope.ts'
import type { DaemonPool } from '../../node/buildkit-runner/daemon/index.ts'
import { createRecords } from '../../node/buildkit-runner/records/index.ts'
import { openCacheStore } from '../../node/cache-store/index.ts'
import { createDiskBudget } from '../../node/disk/index.ts'
import { joinCoordinator, type Membership } from '../../node/membership.ts'
import { measureLoad } from '../../node/membership-load.ts'
import { createScheduler, type SchedulerOptions } from '../../node/scheduler/index.ts'
import { createNodeService } from '../../node/service.ts'
import { BuildOutcome, SolveReport } from '../../proto/generated/hearth/v1/build.ts'
import {
  AdminClient,
  BuildsClient,
  type FinishBuildReply,
  type GetBuildReply,
  type ListBuildsReply,
  type ListNodesReply,
  type OpenBuildReply,
  type OpenBuildRequest,
  type PlaceBuildEvent,
} from '../../proto/generated/hearth/v1/coordinator.ts'
import type { CachePolicy } from '../../proto/generated/hearth/v1/node.ts'
import { createTemporaryFolder } from '../harness/temporary-folder.ts'

export const never = new AbortController().signal
/** Far above what any step takes here, far below what a person would wait for a hanging test. */
export const limit = () => AbortSignal.timeout(20_000)

export type Coordinator = Awaited<ReturnType<typeof startCoordinator>>

export function startTestCoordinator(
  folder: string,
  options: { port?: number; log?: Logger; heartbeatMs?: number; upkeepMs?: number } = {},
): Promise<Coordinator> {
  const { port = 0, log = silentLogger, heartbeatMs = 1_000, ...rest } = options
  return startCoordinator({
    folder,
    listen: { host: '127.0.0.1', port },
    log,
    signal: never,
    heartbeatMs,
    ...rest,
  })
}

export interface TestNode extends AsyncDisposable {
  readonly id: string
  readonly membership: Membership
  readonly scheduler: ReturnType<typeof createScheduler>
  readonly store: Awaited<ReturnType<typeof openCacheStore>>
  readonly controlAddress: string
  readonly policies: ReadonlyMap<string, CachePolicy>
  readonly log: Logger
  /** The scopes whose BuildKit has been reset. */
  readonly daemonsReset: Scope[]
}

export interface TestNodeOptions {
  coordinator: Pick<Coordinator, 'address' | 'caPem'>
  joinToken: string | undefined
  folder: string
  name?: string
  platform?: string
  log?: Logger
  scheduler?: Partial<SchedulerOptions>
  /** Scopes with BuildKit state. */
  daemonScopes?: Scope[]
}

/** Put together as node/main does, in the same order. */
export async function startTestNode(options: TestNodeOptions): Promise<TestNode> {
  const { folder, log = silentLogger, coordinator } = options
  await using stack = new AsyncDisposableStack()
  const scheduler = stack.use(createScheduler({ log }, { slots: 2, ...options.scheduler }))
  const store = stack.use(await openCacheStore({ folder: path.join(folder, 'cache'), log }))
  const records = stack.use(
    await createRecords({ store, log }, { folder: path.join(folder, 'records') }),
  )
  const membership = stack.use(
    await joinCoordinator(
      { log },
      {
        folder: path.join(folder, 'identity'),
        coordinatorAddress: coordinator.address,
        caPem: coordinator.caPem,
        joinToken: options.joinToken,
        name: options.name ?? 'builder',
        platform: options.platform ?? 'linux/amd64',
        version: '0.1.0',
        signal: limit(),
      },
    ),
  )
  const daemons = twinOfDaemons(options.daemonScopes ?? [])
  const disk = stack.use(await createDiskBudget({ daemons, store, scheduler, log }, { folder }))
  const service = stack.use(
    await createNodeService(
      {
        scheduler,
        store,
        records,
        daemons,
        disk,
        mounts: { list: () => [], reset: async () => 0 },
        reports: membership,
        log,
      },
      {
        host: '127.0.0.1',
        port: 0,
        nodeId: membership.nodeId,
        identity: membership.identity(),
      },
    ),
  )
  const controlAddress = formatAddress(service.host, service.port)
  let policies: ReadonlyMap<string, CachePolicy> = new Map()
  membership.announce({
    addresses: { build: '127.0.0.1:9', control: controlAddress },
    load: () => measureLoad({ scheduler, store, disk }, { dataFolder: folder }),
    onPolicies(known) {
      policies = known
    },
    onIdentity: service.replaceIdentity,
  })
  const owned = stack.move()
  return {
    id: membership.nodeId,
    membership,
    scheduler,
    store,
    controlAddress,
    get policies() {
      return policies
    },
    log,
    daemonsReset: daemons.resetScopes,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

/** Holds 1,000 bytes of state for each scope and runs nothing. */
function twinOfDaemons(scopes: Scope[]): DaemonPool & { resetScopes: Scope[] } {
  const known = [...scopes]
  const resetScopes: Scope[] = []
  return {
    resetScopes,
    acquire: () => Promise.reject(new Error('no BuildKit runs here')),
    contentFile: () => undefined,
    measure: async (scope) => ({
      bytes: known.some((each) => isSame(each, scope)) ? 1_000 : 0,
      bytesSetAside: 0,
      content: [],
    }),
    isInUse: () => false,
    lastUsedAtMs: async () => 0,
    prune: async () => ({ type: 'kept', reason: 'within its limit' }),
    async removeSetAside() {},
    async reset(scope) {
      const index = known.findIndex((each) => isSame(each, scope))
      if (index < 0) return { bytesFreed: 0 }
      known.splice(index, 1)
      resetScopes.push(scope)
      return { bytesFreed: 1_000 }
    },
    scopes: () => [...known],
    setLeases() {},
    async deny() {},
    async reach() {},
    async [Symbol.asyncDispose]() {},
  }
}

function isSame(a: Scope, b: Scope): boolean {
  return a.project === b.project && a.line === b.line
}

/** What the command line does, call by call. */
export interface TestClient extends Disposable {
  readonly builds: BuildsClient
  readonly admin: AdminClient
  open(request?: Partial<OpenBuildRequest>): Promise<OpenBuildReply>
  place(buildId: string, signal?: AbortSignal): AsyncIterable<PlaceBuildEvent['event']>
  /** Places a build and waits for the end of the stream. */
  placed(buildId: string): Promise<PlaceBuildEvent['event'][]>
  finish(buildId: string, outcome?: BuildOutcome): Promise<FinishBuildReply>
  get(buildId: string): Promise<GetBuildReply>
  list(request?: { project?: string; limit?: number }): Promise<ListBuildsReply>
  nodes(): Promise<ListNodesReply>
  removeNode(nodeId: string): Promise<void>
  readonly metadata: Metadata
  readonly key: KeyObject
}

export function connectTestClient(
  coordinator: Pick<Coordinator, 'address' | 'caPem'>,
  token: string | undefined,
): TestClient {
  const secure = credentials.createSsl(Buffer.from(coordinator.caPem))
  const builds = new BuildsClient(coordinator.address, secure, asCoordinator)
  const admin = new AdminClient(coordinator.address, secure, asCoordinator)
  const metadata = new Metadata()
  if (token !== undefined) metadata.set('authorization', `Bearer ${token}`)
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const settings = { metadata, signal: never }
  const place: TestClient['place'] = async function* (buildId, signal = limit()) {
    const events = callStream(
      'place the build',
      (sent, options) => builds.placeBuild({ buildId, plans: [] }, sent, options),
      { metadata, signal, timeoutMs: 60_000 },
    )
    for await (const { event } of events) yield event
  }
  return {
    builds,
    admin,
    metadata,
    key: privateKey,
    open: (request = {}) =>
      callUnary<OpenBuildReply>(
        'open the build',
        (sent, options, done) =>
          builds.openBuild(
            {
              protocolVersion: formatVersions.protocol,
              project: 'app',
              platforms: [],
              command: 'hearth build .',
              clientPublicKey: publicKey.export({ type: 'spki', format: 'der' }),
              ...request,
            },
            sent,
            options,
            done,
          ),
        settings,
      ),
    place,
    placed: (buildId) => Array.fromAsync(place(buildId)),
    finish: (buildId, outcome = BuildOutcome.BUILD_OUTCOME_SUCCEEDED) =>
      callUnary<FinishBuildReply>(
        'finish the build',
        (sent, options, done) =>
          builds.finishBuild({ buildId, outcome, durationMs: 1_234 }, sent, options, done),
        settings,
      ),
    get: (buildId) =>
      callUnary<GetBuildReply>(
        'get the build',
        (sent, options, done) => builds.getBuild({ buildId }, sent, options, done),
        settings,
      ),
    list: (request = {}) =>
      callUnary<ListBuildsReply>(
        'list the builds',
        (sent, options, done) =>
          builds.listBuilds({ project: '', limit: 0, ...request }, sent, options, done),
        settings,
      ),
    nodes: () =>
      callUnary<ListNodesReply>(
        'list the nodes',
        (sent, options, done) => admin.listNodes({}, sent, options, done),
        settings,
      ),
    async removeNode(nodeId) {
      await callUnary(
        'remove a node',
        (sent, options, done) => admin.removeNode({ nodeId }, sent, options, done),
        settings,
      )
    },
    [Symbol.dispose]() {
      builds.close()
      admin.close()
    },
  }
}

export const asCoordinator: ClientOptions = {
  'grpc.ssl_target_name_override': coordinatorServerName,
  'grpc.default_authority': coordinatorServerName,
}

export interface AllOptions extends Partial<TestNodeOptions> {
  upkeepMs?: number
  heartbeatMs?: number
}

/** A coordinator, one node that it has heard of, and the operator's client. */
export async function startAll(options: AllOptions = {}) {
  await using stack = new AsyncDisposableStack()
  const folder = stack.use(await createTemporaryFolder('control'))
  const { upkeepMs, heartbeatMs, ...nodeOptions } = options
  const coordinatorFolder = path.join(folder.path, 'coordinator')
  const coordinator = stack.use(
    await startTestCoordinator(coordinatorFolder, {
      ...(upkeepMs === undefined ? {} : { upkeepMs }),
      ...(heartbeatMs === undefined ? {} : { heartbeatMs }),
    }),
  )
  const node = stack.use(
    await startTestNode({
      coordinator,
      joinToken: await coordinator.newJoinToken(),
      folder: path.join(folder.path, 'node'),
      ...nodeOptions,
    }),
  )
  await node.membership.heard({ signal: limit() })
  const client = stack.use(connectTestClient(coordinator, coordinator.adminToken))
  const owned = stack.move()
  return {
    folder: folder.path,
    coordinatorFolder,
    coordinator,
    node,
    client,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

/** The code of the HearthError that a call ends with. */
export async function codeOf(t: ExecutionContext, call: Promise<unknown>): Promise<string> {
  const error = await t.throwsAsync<HearthError>(call, { instanceOf: HearthError })
  return error?.code ?? ''
}

/** What a node's proxy would report of one solve. */
export function solveReport(ref: string, change: Partial<SolveReport> = {}): SolveReport {
  return SolveReport.fromPartial({
    ref,
    outcome: BuildOutcome.BUILD_OUTCOME_SUCCEEDED,
    startedAt: new Date(),
    durationMs: 500,
    ...change,
  })
}

export function reportFrom(node: TestNode, buildId: string, ...solves: SolveReport[]): void {
  node.membership.report({ buildId, nodeId: '', scope: makeScope('app', 'main'), solves })
}

export function channelCredentials(identity: TlsIdentity) {
  return credentials.createSsl(
    Buffer.from(identity.caPem),
    Buffer.from(identity.privateKeyPem),
    Buffer.from(identity.certificatePem),
  )
}

/** Asks again until the answer is right. What is awaited has no event that a test could see. */
export async function eventually<T>(
  ask: () => T | Promise<T>,
  isRight: (answer: T) => boolean,
): Promise<T> {
  const signal = limit()
  for (;;) {
    const answer = await ask()
    if (isRight(answer)) return answer
    if (signal.aborted) throw new Error(`still ${JSON.stringify(answer)}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}
