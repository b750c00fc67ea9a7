/**
 * Nodes without builds: each with a store, a peer, a direct road, sources and records, in one process and on real
 * connections. What a build would leave is pushed by the test.
 */
import path from 'node:path'
import type { ExecutionContext } from 'ava'
import pino from 'pino'
import type { Digest } from '../../core/digest.ts'
import { makeScope } from '../../core/scope.ts'
import type { FragmentNews } from '../../mesh/fragments/index.ts'
import { issueMembership, openPeerIdentity } from '../../mesh/index.ts'
import { connected, createRealm, eventually, temporaryFolder } from '../../mesh/peers.fixture.ts'
import {
  type ComposedRecord,
  createRecords,
  type KeepResult,
  type Records,
  type RecordsOptions,
} from '../../node/buildkit-runner/records/index.ts'
import {
  pushRecord,
  type Step,
  servedDigests,
} from '../../node/buildkit-runner/records/pushed-records.fixture.ts'
import { type CacheStore, openCacheStore } from '../../node/cache-store/index.ts'
import { createS3Tier } from '../../node/cache-store/s3-tier/index.ts'
import { type BlobSources, createSources } from '../../node/cache-store/sources/index.ts'
import { openPeering, type Peering } from '../../node/peering/index.ts'
import type { S3Server } from '../harness/index.ts'
import { createNodeIdentities } from '../harness/node-identities.ts'

export const scope = makeScope('app', 'main')

export interface MergeNode {
  readonly name: string
  readonly folder: string
  readonly store: CacheStore
  readonly peering: Peering
  readonly news: FragmentNews
  readonly sources: BlobSources
  readonly records: Records
  /** Its log, one line per entry. */
  readonly log: readonly string[]
  /** A build of these steps has been exported, and is kept. */
  build(steps: readonly Step[], options?: { withoutBlobs?: boolean }): Promise<KeepResult>
  /** As for a build: gets ready, then composes. The caller disposes it. */
  compose(): Promise<ComposedRecord>
  /** Digests of the layers that a build is served, sorted. */
  served(): Promise<Digest[]>
  stop(): Promise<void>
}

export interface MergeNodes {
  /** Knows all that are there, and they know it; resolves when they are connected. */
  add(name: string, options?: AddOptions): Promise<MergeNode>
}

export interface AddOptions extends Partial<RecordsOptions> {
  /** An earlier life's. */
  data?: string
  /** Behind all nodes that have it. */
  s3?: S3Server
}

export async function createMergeNodes(t: ExecutionContext): Promise<MergeNodes> {
  const realm = createRealm()
  const identities = await createNodeIdentities()
  t.teardown(() => identities[Symbol.asyncDispose]())
  const nodes = new Map<string, MergeNode>()
  const memberships = new Map<string, Uint8Array>()

  async function meet(): Promise<void> {
    for (const node of nodes.values()) {
      const membership = memberships.get(node.name) ?? Buffer.alloc(0)
      const enrolment = { membership, membershipKey: realm.publicKey }
      node.peering.enrolled(enrolment, [...memberships.values()])
    }
    for (const one of nodes.values()) {
      for (const two of nodes.values()) {
        if (one === two) continue
        const host = two.peering.mesh.host
        await connected(one.peering.mesh.host, { host } as Parameters<typeof connected>[1])
      }
    }
  }

  return {
    async add(name, { data, s3: server, ...options } = {}) {
      const stack = new AsyncDisposableStack()
      t.teardown(() => stack.disposeAsync())
      const folder = data ?? (await temporaryFolder(t))
      const inside = (part: string): string => path.join(folder, part)
      const lines: string[] = []
      const log = pino({ level: 'info' }, { write: (line: string) => void lines.push(line) })
      const store = stack.use(await openCacheStore({ folder: inside('store'), log }))
      const identity = await openPeerIdentity(path.join(inside('mesh'), 'peer.pem'))
      const { peerId } = identity
      const issue = (addresses: readonly string[], bulkAddress: string) =>
        issueMembership(
          realm.privateKey,
          { peerId, nodeId: name, roles: ['node'], addresses, bulkAddress },
          { nowMs: Date.now(), lifetimeMs: 60 * 60_000 },
        )
      const peering = stack.use(
        await openPeering(
          { identity, store, log },
          {
            folder: inside('mesh'),
            listen: { host: '127.0.0.1', port: 0 },
            enrolment: { membership: issue([], ''), membershipKey: realm.publicKey },
            identity: await identities.issue(name),
          },
        ),
      )
      const { mesh, exchange, addresses } = peering
      const { fragments: news } = mesh
      if (news === undefined) throw new Error('a node hears of fragments')
      const s3 =
        server === undefined
          ? undefined
          : stack.use(
              await createS3Tier(
                { store, log },
                {
                  url: `s3://${server.bucket}/merge`,
                  endpoint: server.endpoint,
                  region: server.region,
                  folder: inside('s3'),
                  credentials: server,
                  limits: { sweepEveryMs: 0 },
                },
              ),
            )
      const sources = stack.use(createSources({ store, mesh, exchange, s3, log }))
      const records = stack.use(
        await createRecords(
          { store, sources, mesh, s3, log },
          { folder: inside('records'), ...options },
        ),
      )
      const compose = async (): Promise<ComposedRecord> => {
        await records.ready(scope, { signal: AbortSignal.timeout(60_000) })
        return records.compose(scope)
      }
      const node: MergeNode = {
        ...{ name, folder, store, peering, news, sources, records, log: lines, compose },
        build: async (steps, how) =>
          records.keep(scope, await pushRecord(store, scope, steps, how)),
        async served() {
          using composed = await compose()
          return servedDigests(composed).sort()
        },
        async stop() {
          nodes.delete(name)
          await stack.disposeAsync()
        },
      }
      memberships.set(name, issue(addresses.mesh, addresses.bulk))
      nodes.set(name, node)
      await meet()
      return node
    },
  }
}

/** Looks again until it says so, for what has no event. */
export async function until(condition: () => Promise<boolean>, what: string): Promise<void> {
  let isTrue = false
  let isStopped = false
  const looking = (async () => {
    while (!isTrue && !isStopped) {
      isTrue = await condition()
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  })()
  try {
    await eventually(() => isTrue, what)
  } finally {
    isStopped = true
    await looking
  }
}
