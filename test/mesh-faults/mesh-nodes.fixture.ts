/**
 * Nodes as far as blobs go, in one process, each with everything real: a cache store, a peer of the mesh that
 * advertises it, both roads to the others, and sources over them. What lies between them is the test's.
 */
import { type FileHandle, open } from 'node:fs/promises'
import path from 'node:path'
import type { ExecutionContext } from 'ava'
import pino from 'pino'
import type { Digest } from '../../core/digest.ts'
import { createExchange, type Exchange, type ExchangeOptions } from '../../mesh/exchange/index.ts'
import {
  createMembershipVerifier,
  type Mesh,
  openMesh,
  openPeerIdentity,
} from '../../mesh/index.ts'
import { issueMembership } from '../../mesh/membership/index.ts'
import { briskLimits, createRealm, eventually, peerEvent } from '../../mesh/peers.fixture.ts'
import { type CacheStore, openCacheStore } from '../../node/cache-store/index.ts'
import { type BlobSources, createSources } from '../../node/cache-store/sources/index.ts'
import { blobFile, put, scope } from '../../node/cache-store/temporary-store.fixture.ts'
import { createOwnAdverts } from '../../node/peering/index.ts'
import { createTemporaryFolder } from '../harness/index.ts'
import { createNodeIdentities } from '../harness/node-identities.ts'

export interface MeshNode {
  readonly nodeId: string
  readonly peerId: string
  readonly store: CacheStore
  readonly storeFolder: string
  readonly mesh: Mesh
  readonly exchange: Exchange
  readonly sources: BlobSources
  /** Its log, one line per entry. */
  readonly log: readonly string[]
  hold(bytes: Uint8Array): Promise<Digest>
  /** Harms the file of a blob, behind the store's back. */
  harm(digest: Digest, how: (file: FileHandle) => Promise<unknown>): Promise<void>
}

export interface MeshNodeOptions {
  /** How wrong its clock is. */
  clockOffsetMs?: number
  /** Where others are told to reach the direct road; default: where it is. */
  bulkPort?: (port: number) => Promise<number>
  /** The same for the peer. */
  meshPort?: (port: number) => Promise<number>
  exchange?: Partial<ExchangeOptions>
}

export interface MeshNodes {
  add(nodeId: string, options?: MeshNodeOptions): Promise<MeshNode>
  /** Tells each of all the others and resolves when all are connected. */
  introduce(): Promise<void>
}

const hourMs = 60 * 60_000
/** Quick to give up; a busy machine is slower than any network of these tests. */
const limits = { pieceBytes: 1 << 20, connectMs: 8_000, hedgeMs: 1_000, stallMs: 4_000 }

export async function createMeshNodes(t: ExecutionContext): Promise<MeshNodes> {
  const stack = new AsyncDisposableStack()
  t.teardown(() => stack.disposeAsync())
  const realm = createRealm()
  const identities = stack.use(await createNodeIdentities())
  const nodes: MeshNode[] = []

  return {
    async add(nodeId, options = {}) {
      const { clockOffsetMs = 0, bulkPort, meshPort } = options
      const now = () => Date.now() + clockOffsetMs
      const lines: string[] = []
      const log = pino({ level: 'debug' }, { write: (line: string) => void lines.push(line) })
      const folder = stack.use(await createTemporaryFolder('node')).path
      const identity = await openPeerIdentity(path.join(folder, 'peer.pem'))
      const membership = (addresses: string[], bulkAddress: string) =>
        issueMembership(
          realm.privateKey,
          { peerId: identity.peerId, nodeId, roles: ['node'], addresses, bulkAddress },
          { nowMs: Date.now(), lifetimeMs: hourMs },
        )
      const storeFolder = path.join(folder, 'store')
      const store = stack.use(await openCacheStore({ folder: storeFolder, log, clock: now }))
      const mesh = stack.use(
        await openMesh(
          {
            identity,
            log,
            verifier: createMembershipVerifier({ publicKeys: [realm.publicKey], now }),
          },
          {
            folder: path.join(folder, 'mesh'),
            advertises: true,
            listen: ['/ip4/127.0.0.1/tcp/0'],
            membership: membership([], ''),
            limits: briskLimits,
            now,
          },
        ),
      )
      const { host, adverts } = mesh
      if (adverts === undefined) throw new Error('a node advertises')
      stack.use(createOwnAdverts({ store, adverts, log }))
      const exchange = stack.use(
        await createExchange(
          { blobs: { find: store.fileOf }, streams: host, log },
          {
            ...{ host: '127.0.0.1', port: 0, identity: await identities.issue(nodeId), limits },
            ...options.exchange,
          },
        ),
      )
      const sources = stack.use(createSources({ store, mesh, exchange, log }))
      const own = Number(host.addresses()[0]?.split('/').at(-1))
      const bulk = (await bulkPort?.(exchange.port)) ?? exchange.port
      const peer = (await meshPort?.(own)) ?? own
      host.renew(membership([`/ip4/127.0.0.1/tcp/${peer}`], `127.0.0.1:${bulk}`))
      const node: MeshNode = {
        ...{ nodeId, peerId: identity.peerId, store, storeFolder, mesh, exchange, sources },
        log: lines,
        hold: (bytes) => put(store, scope, bytes),
        async harm(digest, how) {
          await using file = await open(blobFile(storeFolder, digest), 'r+')
          await how(file)
        },
      }
      nodes.push(node)
      return node
    },
    async introduce() {
      const memberships = nodes.map(({ mesh }) => mesh.host.membership())
      for (const { mesh, exchange } of nodes) {
        mesh.host.learn(memberships)
        exchange.setMembers(nodes.map(({ nodeId }) => nodeId))
      }
      for (const { mesh } of nodes) {
        for (const { mesh: other } of nodes) {
          if (other === mesh) continue
          const { peerId } = other.host
          await peerEvent(
            mesh.host,
            (event) => event.type === 'connected' && event.peerId === peerId,
          )
        }
      }
    },
  }
}

/** Resolves when the index of `asker` says that exactly these hold the blob. */
export async function heardOf(
  asker: MeshNode,
  digest: Digest,
  holders: readonly MeshNode[],
): Promise<void> {
  const wanted = holders.map(({ nodeId }) => nodeId).sort()
  const known = () =>
    asker.mesh
      .holdersOf(digest)
      .map(({ member }) => member.membership.nodeId)
      .sort()
  await eventually(() => known().join() === wanted.join(), `the advert of ${digest}`)
}
