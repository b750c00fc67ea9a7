/**
 * For tests: nodes in one process, each with a cache store, an exchange and sources over both, and an object
 * store that answers range requests. Who holds what is said by the test.
 */
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import path from 'node:path'
import { Readable } from 'node:stream'
import type { ExecutionContext } from 'ava'
import pino from 'pino'
import type { Digest } from '../../../core/digest.ts'
import type { Scope } from '../../../core/scope.ts'
import {
  createExchange,
  type Exchange,
  type ExchangeOptions,
} from '../../../mesh/exchange/index.ts'
import type { Holder } from '../../../mesh/index.ts'
import { createTemporaryFolder } from '../../../test/harness/index.ts'
import { createNodeIdentities } from '../../../test/harness/node-identities.ts'
import { type CacheStore, type CacheStoreOptions, openCacheStore } from '../index.ts'
import { put, scope } from '../temporary-store.fixture.ts'
import { type BlobSources, type BlobSourcesDeps, createSources } from './index.ts'

export interface TestNode {
  readonly nodeId: string
  readonly folder: string
  readonly store: CacheStore
  readonly exchange: Exchange
  readonly sources: BlobSources
  /** Its log, one line per entry. */
  readonly log: readonly string[]
  /** Digests that it was asked for, in order. */
  readonly asked: readonly Digest[]
  hold(bytes: Uint8Array, of?: Scope): Promise<Digest>
}

export interface TestNodes {
  add(nodeId: string, options?: NodeOptions): Promise<TestNode>
  /** From now on each of these is said to hold the blob, as an advert would say it. */
  advertise(digest: Digest, holders: readonly (TestNode | Advertised)[]): void
  readonly objects: ObjectStore
}

export interface NodeOptions {
  exchange?: Partial<ExchangeOptions>
  store?: Partial<CacheStoreOptions>
  sources?: Parameters<typeof createSources>[1]
  /** Default: none. */
  s3?: BlobSourcesDeps['s3']
}

export interface Advertised extends Partial<Pick<Holder, 'heat' | 'size'>> {
  node: TestNode
  /** Another way to it than its own. */
  port?: number
  roundTripMs?: number
}

export async function createNodes(t: ExecutionContext): Promise<TestNodes> {
  const stack = new AsyncDisposableStack()
  t.teardown(() => stack.disposeAsync())
  const identities = stack.use(await createNodeIdentities())
  const objects = stack.use(await startObjects())
  const exchanges = new Map<string, Exchange>()
  const holders = new Map<Digest, Holder[]>()

  return {
    objects,
    advertise(digest, list) {
      const known = list.map((each) => holderOf('node' in each ? each : { node: each }))
      holders.set(digest, known)
    },
    async add(nodeId, options = {}) {
      const lines: string[] = []
      const asked: Digest[] = []
      const log = pino({ level: 'debug' }, { write: (line: string) => void lines.push(line) })
      const root = stack.use(await createTemporaryFolder('node'))
      const folder = path.join(root.path, 'store')
      const store = stack.use(await openCacheStore({ log, ...options.store, folder }))
      const find = (of: Scope, digest: Digest) => {
        asked.push(digest)
        return store.fileOf(of, digest)
      }
      const exchange = stack.use(
        await createExchange(
          { blobs: { find }, log },
          {
            ...{ host: '127.0.0.1', port: 0, identity: await identities.issue(nodeId) },
            ...options.exchange,
          },
        ),
      )
      exchanges.set(nodeId, exchange)
      for (const each of exchanges.values()) each.setMembers(exchanges.keys())
      const holdersOf = (digest: Digest) =>
        (holders.get(digest) ?? []).filter(({ member }) => member.membership.nodeId !== nodeId)
      const deps = { store, exchange, mesh: { holdersOf }, s3: options.s3, log }
      const sources = stack.use(createSources(deps, options.sources))
      return {
        ...{ nodeId, folder, store, exchange, sources, log: lines, asked },
        hold: (bytes, of = scope) => put(store, of, bytes),
      }
    },
  }
}

function holderOf({ node, port, roundTripMs = 1, heat = 'held', size = 0 }: Advertised): Holder {
  const membership = {
    peerId: `peer-of-${node.nodeId}`,
    nodeId: node.nodeId,
    roles: ['node'],
    addresses: [],
    otherAddresses: [],
    bulkAddress: `127.0.0.1:${port ?? node.exchange.port}`,
    issuedAtMs: 0,
    expiresAtMs: Number.MAX_SAFE_INTEGER,
  }
  return { member: { membership, connected: true, roundTripMs }, heat, size }
}

export interface ObjectStore extends AsyncDisposable {
  readonly s3: NonNullable<BlobSourcesDeps['s3']>
  readonly objects: Map<Digest, Uint8Array>
  /** Digests of which a URL was asked for. */
  readonly asked: Digest[]
  readonly faults: string[]
  /** When false, there are no URLs, only `read`. */
  hasUrls: boolean
}

async function startObjects(): Promise<ObjectStore> {
  const objects = new Map<Digest, Uint8Array>()
  const server: Server = createServer((request, response) => {
    const bytes = objects.get((request.url ?? '').slice(1) as Digest)
    const [, first, last] = /bytes=(\d+)-(\d+)/.exec(request.headers.range ?? '') ?? []
    if (bytes === undefined) response.writeHead(404).end()
    else response.writeHead(206).end(bytes.subarray(Number(first), Number(last) + 1))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const store: ObjectStore = {
    objects,
    asked: [],
    faults: [],
    hasUrls: true,
    s3: {
      name: 's3',
      has: (digest) => objects.has(digest),
      async urlOf(digest) {
        if (!store.hasUrls) throw new Error('no URLs')
        store.asked.push(digest)
        return `http://127.0.0.1:${port}/${digest}`
      },
      async read({ digest }) {
        const bytes = objects.get(digest)
        return bytes === undefined ? undefined : Readable.from([bytes])
      },
      reportFault: (_digest, { reason }) => void store.faults.push(reason),
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
  return store
}
