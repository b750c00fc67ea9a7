import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readFile, truncate, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import path from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import test, { type ExecutionContext } from 'ava'
import pino from 'pino'
import { type Digest, digestOf } from '../../core/digest.ts'
import { makeScope, scopeId } from '../../core/scope.ts'
import { freePort } from '../../test/harness/index.ts'
import { createNodeIdentities, type NodeIdentities } from '../../test/harness/node-identities.ts'
import { connected, createRealm, introduce, startPeer, temporaryFolder } from '../peers.fixture.ts'
import { type BlobSource, createExchange, type Exchange, type ExchangeOptions } from './index.ts'

const mebibyte = 1024 * 1024
const scope = makeScope('app', 'main')
const limits = { pieceBytes: 2 * mebibyte, stallMs: 5_000, hedgeMs: 2_000, connectMs: 10_000 }

let identities: NodeIdentities
test.before(async () => {
  identities = await createNodeIdentities()
})
test.after.always(() => identities[Symbol.asyncDispose]())

interface StreamNode {
  readonly nodeId: string
  readonly exchange: Exchange
  readonly log: readonly string[]
  /** Its direct road leads nowhere, as behind a firewall that refuses. */
  readonly source: BlobSource
  readonly folder: string
  hold(bytes: Uint8Array): Promise<{ digest: Digest; size: number; file: string }>
  /** How often it was asked. */
  readonly asked: () => number
}

/** Nodes that have a mesh with each other. */
async function startNodes(
  t: ExecutionContext,
  count: number,
  options: Partial<ExchangeOptions> = {},
): Promise<StreamNode[]> {
  const realm = createRealm()
  const peers = await Promise.all(Array.from({ length: count }, () => startPeer(t, realm)))
  const nodes: StreamNode[] = []
  for (const { host } of peers) {
    const nodeId = host.peerId.slice(-12)
    const folder = await temporaryFolder(t)
    const held = new Map<string, { file: string; size: number }>()
    const lines: string[] = []
    let asked = 0
    const exchange = await createExchange(
      {
        blobs: {
          find(of, digest) {
            asked += 1
            return held.get(`${scopeId(of)} ${digest}`)
          },
        },
        streams: host,
        log: pino({ level: 'debug' }, { write: (line: string) => void lines.push(line) }),
      },
      {
        ...{ host: '127.0.0.1', port: 0, identity: await identities.issue('node'), limits },
        ...options,
      },
    )
    t.teardown(() => exchange[Symbol.asyncDispose]())
    exchange.setMembers(peers.map((peer) => peer.host.peerId.slice(-12)))
    const port = await freePort()
    nodes.push({
      ...{ nodeId, exchange, folder, log: lines, asked: () => asked },
      source: { type: 'node', nodeId, peerId: host.peerId, host: '127.0.0.1', port },
      async hold(bytes) {
        const digest = digestOf(bytes)
        const file = path.join(folder, digest.slice(-20))
        await writeFile(file, bytes)
        held.set(`${scopeId(scope)} ${digest}`, { file, size: bytes.length })
        return { digest, size: bytes.length, file }
      },
    })
  }
  introduce(peers)
  for (const peer of peers) {
    for (const other of peers) if (other !== peer) await connected(peer.host, other)
  }
  return nodes
}

let files = 0
async function fetch(
  taker: StreamNode,
  blob: { digest: Digest; size: number },
  sources: readonly BlobSource[],
  options: { of?: typeof scope; signal?: AbortSignal } = {},
) {
  const { of = scope, signal = AbortSignal.timeout(60_000) } = options
  files += 1
  const file = path.join(taker.folder, `fetched-${files}`)
  const { digest, size } = blob
  const outcome = await taker.exchange.fetch({ scope: of, digest, size, file, sources, signal })
  const arrived = outcome.type === 'fetched' ? digestOf(await readFile(file)) : undefined
  return { outcome, arrived }
}

test.serial('where the direct road is closed, blobs of any size come over streams', async (t) => {
  const [giver, taker] = await startNodes(t, 2)
  if (giver === undefined || taker === undefined) return t.fail()
  for (const size of [1, 300_000, mebibyte, 2 * mebibyte + 1, 9 * mebibyte + 17]) {
    const blob = await giver.hold(randomBytes(size))
    const { outcome, arrived } = await fetch(taker, blob, [giver.source])
    if (outcome.type !== 'fetched') return t.fail(JSON.stringify(outcome))
    t.is(arrived, blob.digest)
    t.deepEqual([...outcome.roads], [[giver.nodeId, 'stream']])
    t.deepEqual([...outcome.bytesBySource], [[giver.nodeId, size]])
    t.deepEqual(outcome.faults, [])
  }
})

test.serial('many small blobs share few streams', async (t) => {
  const [giver, taker] = await startNodes(t, 2)
  if (giver === undefined || taker === undefined) return t.fail()
  const blobs = await Promise.all(
    Array.from({ length: 40 }, (_, index) => giver.hold(randomBytes(100 + index))),
  )
  const fetches = await Promise.all(blobs.map((blob) => fetch(taker, blob, [giver.source])))
  for (const [index, { arrived }] of fetches.entries())
    t.is(arrived, blobs[index]?.digest, JSON.stringify(fetches[index]))
})

test.serial('two streams and an honest hash bring a blob from two peers', async (t) => {
  const [first, second, taker] = await startNodes(t, 3, { uploadBytesPerS: 4 * mebibyte })
  if (first === undefined || second === undefined || taker === undefined) return t.fail()
  const bytes = randomBytes(12 * mebibyte)
  const blob = await first.hold(bytes)
  await second.hold(bytes)
  const { outcome, arrived } = await fetch(taker, blob, [first.source, second.source])
  t.is(arrived, blob.digest, JSON.stringify(outcome))
  t.true(outcome.type === 'fetched' && outcome.bytesBySource.size === 2)
})

test.serial(
  'what a peer does not have for the scope, or not whole, it does not give',
  async (t) => {
    const [giver, taker] = await startNodes(t, 2, { limits: { ...limits, asideMs: 0 } })
    if (giver === undefined || taker === undefined) return t.fail()
    const blob = await giver.hold(randomBytes(500_000))
    const other = await fetch(taker, blob, [giver.source], { of: makeScope('app', 'fork') })
    t.like(other.outcome, { type: 'failed', faults: [{ reason: 'absent' }] })
    const smaller = await fetch(taker, { ...blob, size: 400_000 }, [giver.source])
    t.like(smaller.outcome, { type: 'failed', faults: [{ reason: 'absent' }] })
    const larger = await fetch(taker, { ...blob, size: 600_000 }, [giver.source])
    t.like(larger.outcome, { type: 'failed', faults: [{ reason: 'refused' }] })
    await truncate(blob.file, 300_000)
    const cut = await fetch(taker, blob, [giver.source])
    t.like(cut.outcome, { type: 'failed', faults: [{ reason: 'broken off' }] })
    await writeFile(blob.file, randomBytes(500_000))
    const changed = await fetch(taker, blob, [giver.source])
    t.like(changed.outcome, { type: 'failed', faults: [{ reason: 'wrong bytes' }] })
  },
)

test.serial('a peer that is no node gets nothing, over no road', async (t) => {
  const [giver, taker] = await startNodes(t, 2)
  if (giver === undefined || taker === undefined) return t.fail()
  const blob = await giver.hold(randomBytes(1_000))
  giver.exchange.setMembers([])
  const { outcome } = await fetch(taker, blob, [giver.source])
  t.is(outcome.type, 'failed')
  t.is(giver.asked(), 0)
  t.true(giver.log.some((line) => line.includes('no node')))
})

test.serial('a direct road that swallows everything costs one wait, not every blob', async (t) => {
  const connectMs = 1_000
  const [giver, taker] = await startNodes(t, 2, { limits: { ...limits, connectMs } })
  if (giver === undefined || taker === undefined) return t.fail()
  let connections = 0
  const hole = createServer((socket) => {
    connections += 1
    socket.on('error', () => {}).resume()
  }).listen(0, '127.0.0.1')
  await once(hole, 'listening')
  t.teardown(() => hole.close())
  const { port } = hole.address() as { port: number }
  const source: BlobSource = { ...giver.source, port } as BlobSource
  for (let round = 0; round < 5; round += 1) {
    const blob = await giver.hold(randomBytes(1_000))
    t.is((await fetch(taker, blob, [source])).arrived, blob.digest)
  }
  t.is(connections, 1)
})

test.serial('a slow disk or network slows the giver down, and nothing piles up', async (t) => {
  const [giver, taker] = await startNodes(t, 2, { uploadBytesPerS: 24 * mebibyte })
  if (giver === undefined || taker === undefined) return t.fail()
  const blob = await giver.hold(randomBytes(24 * mebibyte))
  const loop = monitorEventLoopDelay({ resolution: 5 })
  loop.enable()
  const { arrived } = await fetch(taker, blob, [giver.source])
  loop.disable()
  t.is(arrived, blob.digest)
  t.log(`event loop p99 ${Math.round(loop.percentile(99) / 1e6)} ms, both ends in one process`)
})

test.serial('a cancelled fetch ends its stream', async (t) => {
  const [giver, taker] = await startNodes(t, 2, { uploadBytesPerS: mebibyte })
  if (giver === undefined || taker === undefined) return t.fail()
  const blob = await giver.hold(randomBytes(8 * mebibyte))
  const signal = AbortSignal.timeout(500)
  await t.throwsAsync(fetch(taker, blob, [giver.source], { signal }), { message: /cancelled/ })
  const small = await giver.hold(randomBytes(1_000))
  t.is((await fetch(taker, small, [giver.source])).arrived, small.digest)
})
