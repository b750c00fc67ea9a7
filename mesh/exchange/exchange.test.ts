import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { access, readFile } from 'node:fs/promises'
import { createServer as createHttpServer } from 'node:http'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import test, { type ExecutionContext } from 'ava'
import { digestOf } from '../../core/digest.ts'
import type { BlobSource } from './index.ts'
import { createPeers, type TestPeer } from './peers.fixture.ts'

const mebibyte = 1024 * 1024
/** Small pieces and short limits, so that a few megabytes show everything. */
const limits = { pieceBytes: 2 * mebibyte, stallMs: 2_000, hedgeMs: 300, connectMs: 5_000 }

async function fetchedBytes(file: string): Promise<string> {
  return digestOf(await readFile(file))
}

const exists = (file: string) =>
  access(file).then(
    () => true,
    () => false,
  )

for (const size of [0, 1, mebibyte - 1, mebibyte, 2 * mebibyte + 1, 7 * mebibyte + 12_345]) {
  test.serial(`a blob of ${size} bytes arrives as it is`, async (t) => {
    const peers = await createPeers(t)
    const giver = await peers.add('giver')
    const taker = await peers.add('taker', { limits })
    const digest = await giver.hold(randomBytes(size))
    const { outcome, file } = await taker.fetch({ digest, size }, [giver.source])
    t.is(outcome.type, 'fetched', JSON.stringify(outcome))
    t.is(await fetchedBytes(file), digest)
  })
}

test.serial('four slow sources bring a blob together', async (t) => {
  const peers = await createPeers(t)
  // Slow enough that even a busy machine is faster.
  const size = 12 * mebibyte
  const bytes = randomBytes(size)
  const givers: TestPeer[] = []
  for (const name of ['a', 'b', 'c', 'd']) {
    givers.push(await peers.add(name, { uploadBytesPerS: mebibyte }))
  }
  const digests = await Promise.all(givers.map((giver) => giver.hold(bytes)))
  const taker = await peers.add('taker', { limits: { ...limits, pieceBytes: mebibyte } })
  const digest = digests[0] ?? digestOf(bytes)
  const { outcome, file } = await taker.fetch(
    { digest, size },
    givers.map(({ source }) => source),
  )
  if (outcome.type !== 'fetched') return t.fail(JSON.stringify(outcome))
  t.is(outcome.bytesBySource.size, 4)
  t.is(await fetchedBytes(file), digest)
})

test.serial('many fetches side by side each get their own blob', async (t) => {
  const peers = await createPeers(t)
  const giver = await peers.add('giver')
  const taker = await peers.add('taker', { limits })
  const blobs = await Promise.all(
    Array.from({ length: 60 }, async (_, index) => {
      const bytes = randomBytes(1_000 * index)
      return { digest: await giver.hold(bytes), size: bytes.length }
    }),
  )
  const results = await Promise.all(blobs.map((blob) => taker.fetch(blob, [giver.source])))
  for (const [index, { outcome, file }] of results.entries()) {
    t.is(outcome.type, 'fetched', JSON.stringify(outcome))
    t.is(await fetchedBytes(file), blobs[index]?.digest ?? '')
  }
})

test.serial('a peer that was started again is reached again over a new connection', async (t) => {
  const peers = await createPeers(t)
  const taker = await peers.add('taker', { limits: { ...limits, asideMs: 0 } })
  const bytes = randomBytes(1_000)
  const first = await peers.add('giver')
  const blob = { digest: await first.hold(bytes), size: bytes.length }
  t.is((await taker.fetch(blob, [first.source])).outcome.type, 'fetched')
  const { port } = first.exchange
  await first.exchange[Symbol.asyncDispose]()
  const second = await peers.add('giver', { port })
  await second.hold(bytes)
  const { outcome } = await taker.fetch(blob, [second.source])
  t.is(outcome.type, 'fetched', JSON.stringify(outcome))
  t.deepEqual(outcome.faults, [])
})

test.serial('a source without the blob is passed over, and is not blamed', async (t) => {
  const peers = await createPeers(t)
  const [empty, giver, taker] = [
    await peers.add('empty'),
    await peers.add('giver'),
    await peers.add('taker', { limits }),
  ]
  const bytes = randomBytes(5_000)
  const digest = await giver.hold(bytes)
  const blob = { digest, size: bytes.length }
  for (let round = 0; round < 2; round += 1) {
    const { outcome } = await taker.fetch(blob, [empty.source, giver.source])
    t.is(outcome.type, 'fetched', JSON.stringify(outcome))
    t.like(outcome.faults, [{ source: 'empty', reason: 'absent' }])
  }
})

test.serial('with nobody who has it, the fetch fails and leaves no file', async (t) => {
  const peers = await createPeers(t)
  const empty = await peers.add('empty')
  const taker = await peers.add('taker', { limits })
  const blob = { digest: digestOf('nowhere'), size: 7 }
  const { outcome, file } = await taker.fetch(blob, [empty.source])
  t.like(outcome, { type: 'failed', faults: [{ source: 'empty', reason: 'absent' }] })
  t.false(await exists(file))
})

test.serial('a flipped bit costs its source the trust, not the blob', async (t) => {
  const peers = await createPeers(t)
  const liar = await peers.add('liar')
  const giver = await peers.add('giver')
  // Alone until it is found out, however slow the machine is.
  const taker = await peers.add('taker', {
    limits: { ...limits, hedgeMs: 30_000, pieceBytes: 16 * mebibyte },
  })
  const bytes = randomBytes(9 * mebibyte)
  const digest = await giver.hold(bytes)
  const flipped = Buffer.from(bytes)
  flipped[5 * mebibyte] = (flipped[5 * mebibyte] ?? 0) ^ 1
  await liar.hold(flipped, digest)
  const blob = { digest, size: bytes.length }
  const { outcome, file } = await taker.fetch(blob, [liar.source, giver.source])
  t.is(outcome.type, 'fetched', JSON.stringify(outcome))
  t.true(outcome.faults.some(({ source, reason }) => source === 'liar' && reason === 'wrong bytes'))
  t.false(outcome.faults.some(({ source }) => source === 'giver'))
  t.is(await fetchedBytes(file), digest)
  t.true(taker.log.some((line) => line.includes('"liar"') && line.includes('wrong bytes')))
  const again = await taker.fetch(blob, [liar.source])
  t.like(again.outcome, { type: 'failed', faults: [{ source: 'liar', reason: 'set aside' }] })
})

test.serial('among several who bring pieces, the one who lied is found', async (t) => {
  const peers = await createPeers(t)
  const bytes = randomBytes(24 * mebibyte)
  const digest = digestOf(bytes)
  const slow = { uploadBytesPerS: 20 * mebibyte }
  const honest = await peers.add('honest', slow)
  await honest.hold(bytes)
  const liar = await peers.add('liar', slow)
  await liar.hold(randomBytes(bytes.length), digest)
  const other = await peers.add('other', slow)
  await other.hold(bytes)
  const taker = await peers.add('taker', { limits: { ...limits, pieceBytes: mebibyte } })
  const { outcome, file } = await taker.fetch({ digest, size: bytes.length }, [
    honest.source,
    liar.source,
    other.source,
  ])
  t.is(outcome.type, 'fetched', JSON.stringify(outcome))
  t.deepEqual(
    [...new Set(outcome.faults.map(({ source, reason }) => `${source}: ${reason}`))],
    ['liar: wrong bytes'],
  )
  t.is(await fetchedBytes(file), digest)
})

test.serial('a blob that is shorter than promised is no blob', async (t) => {
  const peers = await createPeers(t)
  const short = await peers.add('short')
  const taker = await peers.add('taker', { limits })
  const bytes = randomBytes(4 * mebibyte)
  const digest = await short.hold(bytes.subarray(0, 3 * mebibyte), digestOf(bytes))
  const { outcome, file } = await taker.fetch({ digest, size: bytes.length }, [short.source])
  t.is(outcome.type, 'failed')
  t.false(await exists(file))
})

/** Something between two peers that passes bytes on until it is told otherwise. */
async function createWire(t: ExecutionContext, to: number, passBytes: number) {
  const sockets = new Set<Socket>()
  const server = createServer((near) => {
    const far = connect(to, '127.0.0.1')
    let passed = 0
    sockets.add(near).add(far)
    near.on('error', () => {}).pipe(far)
    far.on('error', () => {})
    far.on('data', (bytes: Buffer) => {
      passed += bytes.length
      if (passed > passBytes) far.pause()
      else near.write(bytes)
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return (server.address() as AddressInfo).port
}

test.serial(
  'a peer that falls silent in the middle of a transfer is replaced by another',
  async (t) => {
    const peers = await createPeers(t)
    const bytes = randomBytes(12 * mebibyte)
    const silent = await peers.add('silent')
    const digest = await silent.hold(bytes)
    const giver = await peers.add('giver')
    await giver.hold(bytes)
    const taker = await peers.add('taker', { limits })
    const port = await createWire(t, silent.exchange.port, 5 * mebibyte)
    const through: BlobSource = { type: 'node', nodeId: 'silent', host: '127.0.0.1', port }
    const { outcome, file } = await taker.fetch({ digest, size: bytes.length }, [
      through,
      giver.source,
    ])
    t.is(outcome.type, 'fetched', JSON.stringify(outcome))
    t.is(await fetchedBytes(file), digest)
  },
)

test.serial('a peer that accepts and then says nothing is given up', async (t) => {
  const peers = await createPeers(t)
  const bytes = randomBytes(3 * mebibyte)
  const silent = await peers.add('silent')
  const digest = await silent.hold(bytes)
  const taker = await peers.add('taker', { limits })
  const port = await createWire(t, silent.exchange.port, 4_000)
  const through: BlobSource = { type: 'node', nodeId: 'silent', host: '127.0.0.1', port }
  const { outcome } = await taker.fetch({ digest, size: bytes.length }, [through])
  t.like(outcome, { type: 'failed', faults: [{ source: 'silent', reason: 'stalled' }] })
})

test.serial('a peer that drips is given up like a silent one', async (t) => {
  const peers = await createPeers(t)
  const bytes = randomBytes(3 * mebibyte)
  const dripping = await peers.add('dripping')
  const digest = await dripping.hold(bytes)
  const taker = await peers.add('taker', { limits })
  // Blocks of the giver are too large to be held back one by one, so something on the way does it.
  const sockets = new Set<Socket>()
  const wire = createServer((near) => {
    const far = connect(dripping.exchange.port, '127.0.0.1')
    const held: Buffer[] = []
    let passed = 0
    sockets.add(near).add(far)
    near.on('error', () => {}).pipe(far)
    far
      .on('error', () => {})
      .on('data', (part: Buffer) => {
        passed += part.length
        if (passed < 8_000) near.write(part)
        else held.push(part)
      })
    const drip = setInterval(() => {
      const [first] = held
      if (first === undefined) return
      near.write(first.subarray(0, 100))
      held[0] = first.subarray(100)
    }, 50)
    near.on('close', () => clearInterval(drip))
  }).listen(0, '127.0.0.1')
  await once(wire, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    wire.close()
  })
  const { port } = wire.address() as AddressInfo
  const through: BlobSource = { type: 'node', nodeId: 'dripping', host: '127.0.0.1', port }
  const { outcome } = await taker.fetch({ digest, size: bytes.length }, [through])
  t.like(outcome, { type: 'failed', faults: [{ source: 'dripping', reason: 'stalled' }] })
})

test.serial('somebody else at the address of a peer is not asked for anything', async (t) => {
  const peers = await createPeers(t)
  const other = await peers.add('other')
  const bytes = randomBytes(1_000)
  const digest = await other.hold(bytes)
  const taker = await peers.add('taker', { limits })
  const posing: BlobSource = {
    ...{ type: 'node', nodeId: 'wanted', host: '127.0.0.1', port: other.exchange.port },
  }
  const { outcome } = await taker.fetch({ digest, size: 1_000 }, [posing])
  t.like(outcome, { type: 'failed', faults: [{ source: 'wanted', reason: 'unreachable' }] })
})

test.serial('who is no member gets nothing, and loses what it had open', async (t) => {
  const peers = await createPeers(t)
  const giver = await peers.add('giver', { uploadBytesPerS: 4 * mebibyte })
  const taker = await peers.add('taker', { limits: { ...limits, asideMs: 0 } })
  const bytes = randomBytes(16 * mebibyte)
  const digest = await giver.hold(bytes)
  const blob = { digest, size: bytes.length }
  const underway = taker.fetch(blob, [giver.source])
  await new Promise((resolve) => giver.onAsked(resolve))
  giver.exchange.setMembers([])
  t.is((await underway).outcome.type, 'failed')
  const later = await taker.fetch(blob, [giver.source])
  t.is(later.outcome.type, 'failed')
  t.true(giver.log.some((line) => line.includes('taker is no member')))
})

test.serial('a cancelled fetch ends at once and leaves no file', async (t) => {
  const peers = await createPeers(t)
  const giver = await peers.add('giver', { uploadBytesPerS: 2 * mebibyte })
  const taker = await peers.add('taker', { limits })
  const bytes = randomBytes(16 * mebibyte)
  const digest = await giver.hold(bytes)
  const cancel = new AbortController()
  const fetching = taker.fetch({ digest, size: bytes.length }, [giver.source], {
    signal: cancel.signal,
  })
  setTimeout(() => cancel.abort(), 100)
  await t.throwsAsync(fetching, { message: /cancelled/ })
})

test.serial('an object behind a URL is a source like any other', async (t) => {
  const peers = await createPeers(t)
  const taker = await peers.add('taker', { limits })
  const bytes = randomBytes(5 * mebibyte + 3)
  const server = createHttpServer((request, response) => {
    const [, first, last] = /bytes=(\d+)-(\d+)/.exec(request.headers.range ?? '') ?? []
    response.writeHead(206).end(bytes.subarray(Number(first), Number(last) + 1))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/object`
  const digest = digestOf(bytes)
  const source: BlobSource = { type: 'url', name: 's3', url }
  const { outcome, file } = await taker.fetch({ digest, size: bytes.length }, [source])
  t.is(outcome.type, 'fetched', JSON.stringify(outcome))
  t.is(await fetchedBytes(file), digest)
})
