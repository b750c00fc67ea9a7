/** A node: constructs its rooms, joins the coordinator, and takes everything down again in reverse order. */
import os from 'node:os'
import path from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { lockFolder } from '../core/folder-lock.ts'
import { claimDataFolder } from '../core/format-version.ts'
import { formatAddress } from '../core/grpc-server.ts'
import { gib } from '../core/limits.ts'
import type { Logger } from '../core/log.ts'
import { packageVersion } from '../core/package-folder.ts'
import { makeScope } from '../core/scope.ts'
import { openPeerIdentity } from '../mesh/index.ts'
import type { CachePolicy } from '../proto/generated/hearth/v1/node.ts'
import {
  createDaemonPool,
  type DaemonPool,
  proxyPortsOnLoopback,
  shareOfThisMachine,
} from './buildkit-runner/daemon/index.ts'
import { createMounts } from './buildkit-runner/mounts/index.ts'
import { createBuildProxy } from './buildkit-runner/proxy/index.ts'
import { createRecords } from './buildkit-runner/records/index.ts'
import {
  createMirror,
  createRegistry,
  defaultUpstreams,
  openManifestTable,
} from './buildkit-runner/registry/index.ts'
import { type CacheStore, type EvictionPolicy, openCacheStore } from './cache-store/index.ts'
import { createS3Tier, type S3Tier } from './cache-store/s3-tier/index.ts'
import { createSources } from './cache-store/sources/index.ts'
import { createDiskBudget, type DiskBudget } from './disk/index.ts'
import { choosePlatform } from './emulated-platform.ts'
import { joinCoordinator } from './membership.ts'
import { measureLoad } from './membership-load.ts'
import { nativePlatform } from './native-platform.ts'
import { keepBuildsOut, openPeering } from './peering/index.ts'
import { createScheduler, slotsOfThisMachine } from './scheduler/index.ts'
import { createNodeService } from './service.ts'
import {
  createBuildPlans,
  createStepAdverts,
  keysInState,
  mountsToRun,
  type StepAdverts,
} from './steps/index.ts'

export interface NodeOptions {
  /** Data folder; made if needed, and this node's alone while it runs. */
  folder: string
  coordinator: { address: string; caPem: string }
  /** Needed the first time, or after the node's certificate has expired. */
  joinToken: string | undefined
  /** Of the build proxy. Port 0: any free one. The control service takes any free port beside it. */
  listen: { host: string; port: number }
  /** See PeeringOptions.listen. Default: port 0 on the host above. */
  meshListen?: { host: string; port: number } | undefined
  /** How people call the node. Default: the machine's name. */
  name?: string | undefined
  /** The "os/arch" that it builds. Default: the machine's own; another one must run here by emulation. */
  platform?: string | undefined
  /** Builds at a time; undefined: as the machine allows. */
  slots: number | undefined
  /** Limits of the node's disk; see DiskBudgetOptions. Default: as the disk allows. */
  disk?: { bytesMax?: number | undefined; freeBytesMin?: number | undefined }
  /** What the steps of one build may use; undefined: an equal part of the memory, and any core that is idle. */
  buildMemoryBytes?: number | undefined
  buildCpus?: number | undefined
  /** Ports of this machine's 127.0.0.1 that builds pull from and push to; see DaemonPool.reach. Default none. */
  reachLoopback?: readonly number[]
  /** The object store behind all nodes; see S3TierOptions. Default: none. */
  s3?: { url: string; endpoint: string | undefined } | undefined
  /** Registries whose public images are mirrored; see MirrorOptions.upstreams. Default: the best known ones. */
  mirrors?: readonly string[]
  log: Logger
  /** Gives the start up. A node that runs is stopped by disposing of it. */
  signal: AbortSignal
}

export interface RunningNode extends AsyncDisposable {
  readonly nodeId: string
}

/** How daemons know the loopback registry: a name and a port that mean something to them alone. */
const registryPlace = { host: 'hearth.cache', port: 5000 }

/** For projects that the coordinator sets no policy for. */
const defaultPolicy: EvictionPolicy = { bytesMax: 50 * gib, daysMax: 30 }

/**
 * Resolves when the coordinator may send builds. With its certificate and membership from an earlier life it builds
 * and is in the mesh before that, while the coordinator is away.
 * @throws HearthError `environment` when the machine lacks something or the folder is in use,
 *   `unauthenticated` when the coordinator does not let the node in, `version` when a newer Hearth made the folder.
 */
export async function startNode(options: NodeOptions): Promise<RunningNode> {
  const { folder, log, signal } = options
  await using stack = new AsyncDisposableStack()
  signal.throwIfAborted()
  await claimDataFolder(folder, 'node')
  stack.use(await lockFolder(folder, 'a node'))
  const inside = (name: string): string => path.join(folder, name)
  const slots = options.slots ?? slotsOfThisMachine()
  const platform = await choosePlatform(options.platform, folder)

  const store = stack.use(
    await openCacheStore({ folder: inside('cache-store'), log, defaultPolicy }),
  )
  const peer = await openPeerIdentity(path.join(inside('mesh'), 'peer.pem'))
  const membership = stack.use(
    await joinCoordinator(
      { log },
      {
        folder: inside('identity'),
        coordinatorAddress: options.coordinator.address,
        caPem: options.coordinator.caPem,
        joinToken: options.joinToken,
        name: options.name ?? os.hostname(),
        platform,
        version: packageVersion(),
        peerId: peer.peerId,
        signal,
      },
    ),
  )
  const { nodeId } = membership
  const plans = createBuildPlans()
  const identity = membership.identity()
  const enrolment = membership.enrolment()
  if (enrolment === undefined) throw new Error('a node that has a peer is enrolled')
  // What it tells of steps is known once the records are open, which need the mesh.
  let steps: StepAdverts | undefined
  const further = { entries: () => steps?.entries() ?? [] }
  const peering = stack.use(
    await openPeering(
      { identity: peer, store, further, log },
      {
        folder: inside('mesh'),
        listen: options.meshListen ?? { host: options.listen.host, port: 0 },
        enrolment,
        identity,
      },
    ),
  )
  const s3 =
    options.s3 === undefined
      ? undefined
      : stack.use(await openObjectStore({ store, log }, inside('s3'), options.s3))
  const { mesh, exchange } = peering
  const sources = stack.use(createSources({ store, mesh, exchange, s3, log }))
  const records = stack.use(
    await createRecords({ store, sources, mesh, s3, log }, { folder: inside('records'), platform }),
  )
  const mounts = stack.use(
    await createMounts(
      { store, sources, news: mesh.mounts, s3, log },
      { folder: inside('mounts'), platform },
    ),
  )
  const stepAdverts = stack.use(
    createStepAdverts({ records, store, adverts: peering.adverts, log }),
  )
  steps = stepAdverts
  // Daemons hand the registry their listeners, and what daemons have made is taken over by the registry: it
  // comes first and learns of the daemons through this.
  let daemons: DaemonPool | undefined
  let disk: DiskBudget | undefined
  const manifests = stack.use(
    await openManifestTable({ store, log }, { folder: inside('manifests') }),
  )
  const mirror = stack.use(
    await createMirror(
      { store, manifests, log },
      { folder: inside('mirror'), upstreams: options.mirrors ?? defaultUpstreams },
    ),
  )
  const registry = stack.use(
    await createRegistry(
      {
        store,
        manifests,
        mirror,
        sources,
        log,
        contentFile: (scope, digest) => daemons?.contentFile(scope, digest),
      },
      { listen: false },
    ),
  )
  daemons = stack.use(
    await createDaemonPool(
      { log },
      {
        folder: inside('buildkit'),
        onIdle: () => disk?.tend(),
        onStateLost: stepAdverts.cooled,
        registry: {
          ...registryPlace,
          serve: (listener) => registry.serve(listener),
          mirrors: mirror.paths,
        },
        steps: mounts.steps,
        perLease: shareOfThisMachine(slots, {
          memoryBytes: options.buildMemoryBytes,
          cpus: options.buildCpus,
        }),
        reach: [...(options.reachLoopback ?? []), ...proxyPortsOnLoopback()],
        ...(platform === nativePlatform() ? {} : { platforms: [platform] }),
      },
    ),
  )
  const scheduler = stack.use(
    createScheduler(
      { log },
      { slots, onLeases: (scope, leases) => daemons?.setLeases(scope, leases) },
    ),
  )
  const budget = stack.use(
    await createDiskBudget({ daemons, store, scheduler, log }, { folder, ...options.disk }),
  )
  disk = budget

  const proxy = stack.use(
    await createBuildProxy(
      {
        daemons,
        registry,
        records,
        mounts,
        scheduler,
        expected: plans.of,
        report({ buildId, scope }, solve) {
          stepAdverts.used(scope, keysInState(solve.steps))
          membership.report({ buildId, nodeId, scope, solves: [solve] })
        },
        log,
      },
      { ...options.listen, identity, registryHost: `${registryPlace.host}:${registryPlace.port}` },
    ),
  )
  const service = stack.use(
    await createNodeService(
      {
        store,
        records,
        mounts,
        daemons,
        disk,
        s3,
        scheduler,
        reports: {
          async settled(buildId, waiting) {
            await proxy.reported(buildId, waiting)
            await membership.settled(buildId, waiting)
          },
        },
        onLeaseAsked(request) {
          plans.expect(request)
          const { scope } = request
          if (scope === undefined) return
          mounts.expect(makeScope(scope.project, scope.line), mountsToRun(request))
        },
        log,
      },
      { host: options.listen.host, port: 0, nodeId, identity },
    ),
  )
  const addresses = {
    build: reachable(options.listen.host, proxy.port),
    control: reachable(options.listen.host, service.port),
    ...peering.addresses,
  }
  stack.use(
    await keepBuildsOut(
      { host: mesh.host, daemons, log },
      {
        always: [
          withPort(options.coordinator.address),
          ...[addresses.build, addresses.control, addresses.bulk],
          ...addresses.mesh,
        ],
      },
    ),
  )
  stack.use(
    membership.announce({
      addresses,
      load: () =>
        measureLoad(
          { scheduler, store, disk: budget, warmSteps: stepAdverts.warmSteps },
          { dataFolder: folder },
        ),
      onPolicies(policies) {
        const known = withDefaults(policies)
        const isNew = [...known].some(
          ([project, policy]) => !isDeepStrictEqual(store.policyOf(project), policy),
        )
        store.setPolicies(known)
        if (isNew) budget.tend()
      },
      onIdentity: (renewed) => {
        proxy.replaceIdentity(renewed)
        service.replaceIdentity(renewed)
        peering.replaceIdentity(renewed)
      },
      onEnrolment: peering.enrolled,
      onExpelled: peering.setExpelled,
    }),
  )
  await membership.heard({ signal })
  const owned = stack.move()
  return { nodeId, [Symbol.asyncDispose]: () => owned.disposeAsync() }
}

/** In a policy from the coordinator, 0 leaves the choice to the node. */
function withDefaults(policies: ReadonlyMap<string, CachePolicy>): Map<string, EvictionPolicy> {
  return new Map(
    [...policies].map(([project, { bytesMax, daysMax }]) => [
      project,
      { bytesMax: bytesMax || defaultPolicy.bytesMax, daysMax: daysMax || defaultPolicy.daysMax },
    ]),
  )
}

/** How others reach what listens here: a wildcard address is no destination. */
function reachable(host: string, port: number): string {
  return formatAddress(host === '0.0.0.0' || host === '::' ? os.hostname() : host, port)
}

function openObjectStore(
  deps: { store: CacheStore; log: Logger },
  folder: string,
  { url, endpoint }: { url: string; endpoint: string | undefined },
): Promise<S3Tier> {
  return createS3Tier(deps, { folder, url, ...(endpoint === undefined ? {} : { endpoint }) })
}

/** gRPC's own default where an address names none. */
function withPort(address: string): string {
  const { hostname, port } = new URL(`https://${address}`)
  return `${hostname}:${port || 443}`
}
