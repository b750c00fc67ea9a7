/**
 * Nodes of one real coordinator, in one process: each with store, membership, peer and direct road, put together as
 * node/main does. Only BuildKit and what serves it are left out.
 */
import path from 'node:path'
import type { Digest } from '../../core/digest.ts'
import { digestOf } from '../../core/digest.ts'
import { type Logger, silentLogger } from '../../core/log.ts'
import { makeScope } from '../../core/scope.ts'
import { openPeerIdentity, type RelayOptions } from '../../mesh/index.ts'
import { type CacheStore, openCacheStore } from '../../node/cache-store/index.ts'
import { type BlobSources, createSources } from '../../node/cache-store/sources/index.ts'
import { joinCoordinator, type Membership } from '../../node/membership.ts'
import { openPeering, type Peering } from '../../node/peering/index.ts'
import { NodeLoad } from '../../proto/generated/hearth/v1/node.ts'
import { type Coordinator, eventually, limit, startTestCoordinator } from '../control/parts.ts'
import { createTemporaryFolder } from '../harness/temporary-folder.ts'

export const scope = makeScope('app', 'main')

export interface PeeringNode extends AsyncDisposable {
  readonly id: string
  readonly peerId: string
  readonly folder: string
  readonly store: CacheStore
  readonly membership: Membership
  readonly peering: Peering
  readonly sources: BlobSources
  /** Puts bytes into the store, as a build would. */
  hold(bytes: Uint8Array): Promise<Digest>
  /** Ids of the other nodes that are said to hold the blob, sorted. */
  holders(digest: Digest): string[]
}

export interface PeeringNodeOptions {
  coordinator: Pick<Coordinator, 'address' | 'caPem'>
  folder: string
  joinToken?: string
  log?: Logger
  /** Whether the coordinator has to have heard of it. Default true. */
  heard?: boolean
  /** By which it renews what it has. */
  now?: () => number
  relay?: RelayOptions
}

export async function startPeeringNode(options: PeeringNodeOptions): Promise<PeeringNode> {
  const { folder, coordinator, joinToken, log = silentLogger } = options
  await using stack = new AsyncDisposableStack()
  const inside = (name: string): string => path.join(folder, name)
  const store = stack.use(await openCacheStore({ folder: inside('cache'), log }))
  const identity = await openPeerIdentity(path.join(inside('mesh'), 'peer.pem'))
  const { peerId } = identity
  const membership = stack.use(
    await joinCoordinator(
      { log },
      {
        folder: inside('identity'),
        coordinatorAddress: coordinator.address,
        caPem: coordinator.caPem,
        joinToken,
        name: path.basename(folder),
        platform: 'linux/amd64',
        version: '0.1.0',
        peerId,
        ...(options.now === undefined ? {} : { now: options.now }),
        signal: limit(),
      },
    ),
  )
  const enrolment = membership.enrolment()
  if (enrolment === undefined) throw new Error('the node is not enrolled')
  const peering = stack.use(
    await openPeering(
      { identity, store, log },
      {
        folder: inside('mesh'),
        listen: { host: '127.0.0.1', port: 0 },
        enrolment,
        identity: membership.identity(),
        ...(options.relay === undefined ? {} : { relay: options.relay }),
      },
    ),
  )
  const { mesh, exchange } = peering
  const sources = stack.use(createSources({ store, mesh, exchange, log }))
  stack.use(
    membership.announce({
      addresses: { build: '127.0.0.1:9', control: '127.0.0.1:9', ...peering.addresses },
      load: () => NodeLoad.create({ slots: 1 }),
      onPolicies: () => {},
      onIdentity: peering.replaceIdentity,
      onEnrolment: peering.enrolled,
      onExpelled: peering.setExpelled,
    }),
  )
  if (options.heard !== false) await membership.heard({ signal: limit() })
  const owned = stack.move()
  return {
    id: membership.nodeId,
    peerId,
    folder,
    store,
    membership,
    peering,
    sources,
    async hold(bytes) {
      await using writer = await store.createWriter(scope)
      await writer.write(bytes)
      const digest = digestOf(bytes)
      await writer.commit(digest)
      return digest
    },
    holders: (digest) =>
      mesh
        .holdersOf(digest)
        .map(({ member }) => member.membership.nodeId)
        .sort(),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

export interface PeeringMesh extends AsyncDisposable {
  readonly folder: string
  coordinator: Coordinator
  readonly coordinatorFolder: string
  /** One more node; a name of before is the same folder. */
  add(
    name: string,
    options?: Partial<Omit<PeeringNodeOptions, 'folder' | 'coordinator'>>,
  ): Promise<PeeringNode>
}

export async function startPeeringMesh(
  options: { heartbeatMs?: number; relay?: RelayOptions } = {},
): Promise<PeeringMesh> {
  await using stack = new AsyncDisposableStack()
  const { path: folder } = stack.use(await createTemporaryFolder('peering'))
  const coordinatorFolder = path.join(folder, 'coordinator')
  const coordinator = await startTestCoordinator(coordinatorFolder, {
    heartbeatMs: 200,
    ...options,
  })
  stack.defer(() => mesh.coordinator[Symbol.asyncDispose]())
  const nodes = stack.use(new AsyncDisposableStack())
  const known = new Set<string>()
  const owned = stack.move()
  const mesh: PeeringMesh = {
    folder,
    coordinator,
    coordinatorFolder,
    async add(name, more = {}) {
      const isNew = !known.has(name)
      known.add(name)
      const joinToken = isNew ? await mesh.coordinator.newJoinToken() : undefined
      const node = await startPeeringNode({
        coordinator: mesh.coordinator,
        folder: path.join(folder, name),
        ...(joinToken === undefined ? {} : { joinToken }),
        ...(options.relay === undefined ? {} : { relay: options.relay }),
        ...more,
      })
      return nodes.use(node)
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
  return mesh
}

/** Resolves when each of the nodes is connected to all others of them. */
export async function allConnected(nodes: readonly PeeringNode[]): Promise<void> {
  for (const node of nodes) {
    await eventually(
      () => {
        const members = node.peering.mesh.host.members().filter(({ connected }) => connected)
        return members.map(({ membership }) => membership.nodeId)
      },
      (ids) => nodes.every(({ id }) => id === node.id || ids.includes(id)),
    )
  }
}
