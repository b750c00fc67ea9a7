import { randomBytes } from 'node:crypto'
import { noise } from '@chainsafe/libp2p-noise'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import test, { type ExecutionContext } from 'ava'
import { createLibp2p } from 'libp2p'
import { HearthError } from '../../core/errors.ts'
import { createLogger } from '../../core/log.ts'
import {
  connected,
  createRealm,
  eventually,
  introduce,
  type Peer,
  peerEvent,
  startPeer,
  within,
} from '../peers.fixture.ts'
import { frameStream } from './framed-stream.ts'
import { helloProtocol } from './hello.ts'
import type { FramedStream } from './index.ts'

const never = new AbortController().signal
const protocol = '/test/echo/1'

/** A libp2p host that never heard of Hearth. */
async function startStranger(t: ExecutionContext, listen: string[] = []) {
  const stranger = await createLibp2p({
    addresses: { listen },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    connectionMonitor: { enabled: false },
  })
  t.teardown(() => stranger.stop())
  return stranger
}

function addressOf(peer: Peer) {
  const [address] = peer.host.addresses()
  return multiaddr(`${address}/p2p/${peer.host.peerId}`)
}

function recordingLog() {
  const lines: Record<string, unknown>[] = []
  const log = createLogger('info', { write: (line) => void lines.push(JSON.parse(line)) })
  return { lines, log }
}

test.serial('two members find each other and a message comes back whole', async (t) => {
  const realm = createRealm()
  const [a, b] = [await startPeer(t, realm), await startPeer(t, realm)]
  await b.host.handle(protocol, async (stream, peerId) => {
    t.is(peerId, a.host.peerId)
    const frame = await stream.read({ signal: never })
    await stream.write(frame ?? Buffer.alloc(0), { signal: never })
    await stream.close()
  })
  introduce([a, b])
  await connected(a.host, b)
  const stream = await a.host.open(b.host.peerId, protocol, { signal: never })
  const bytes = randomBytes(300_000)
  await stream.write(bytes, { signal: never })
  t.deepEqual(Buffer.from((await stream.read({ signal: never })) ?? []), bytes)
  t.is(await stream.read({ signal: never }), undefined)
})

test.serial(
  'a stranger opens no protocol but the hello, and is gone after a second without one',
  async (t) => {
    const { lines, log } = recordingLog()
    const peer = await startPeer(t, createRealm(), { log })
    await peer.host.handle(protocol, () => t.fail('the handler ran for a stranger'))
    const stranger = await startStranger(t)

    const pushy = await stranger.dial(addressOf(peer))
    const stream = await pushy.newStream(protocol).catch(() => undefined)
    if (stream !== undefined) {
      const framed = frameStream(stream)
      await framed.write(Buffer.from('let me in'), { signal: never }).catch(() => {})
      t.is(await framed.read({ signal: never }).catch(() => undefined), undefined)
    }
    await eventually(() => pushy.status !== 'open', 'the end of the pushy connection')

    const startedAt = performance.now()
    const silent = await stranger.dial(addressOf(peer))
    await eventually(() => silent.status !== 'open', 'the end of the silent connection')
    t.true(performance.now() - startedAt < 10_000)
    t.true(lines.some(({ peer: name }) => name === stranger.peerId.toString()))
    t.deepEqual(peer.host.members(), [])
  },
)

test.serial('a stolen membership is refused, and the log names the thief', async (t) => {
  const { lines, log } = recordingLog()
  const realm = createRealm()
  const [peer, victim] = [
    await startPeer(t, realm, { log, limits: { helloMs: 10_000 } }),
    await startPeer(t, realm),
  ]
  const thief = await startStranger(t)
  const connection = await thief.dial(addressOf(peer))
  const stream = frameStream(await connection.newStream(helloProtocol))
  await stream.write(victim.membership(), { signal: never })
  const answer = await stream.read({ signal: never }).catch(() => undefined)
  t.is(answer, undefined)
  await eventually(() => connection.status !== 'open', 'the end of the thief')
  const line = lines.find(({ peer: name }) => name === thief.peerId.toString())
  t.regex(String(line?.reason), /issued to another peer/)
})

test.serial(
  'a membership that is known is believed again, and one that differs from it in a bit is not',
  async (t) => {
    const realm = createRealm()
    const [a, b] = [await startPeer(t, realm), await startPeer(t, realm)]
    const signed = b.membership()
    t.deepEqual(a.host.learn([signed, signed]), { learned: 2 })
    for (const place of [0, 70, signed.length - 1]) {
      const bent = Buffer.from(signed)
      bent.writeUInt8((signed[place] ?? 0) ^ 1, place)
      t.deepEqual(a.host.learn([bent]), { learned: 0 }, `at ${place}`)
    }
    a.host.setExpelled([b.host.peerId])
    t.deepEqual(a.host.learn([signed]), { learned: 0 })
    a.host.setExpelled([])
    t.deepEqual(a.host.learn([signed]), { learned: 1 })
  },
)

test.serial('a membership that another coordinator signed opens nothing', async (t) => {
  const [a, b] = [await startPeer(t, createRealm()), await startPeer(t, createRealm())]
  t.deepEqual(a.host.learn([b.membership()]), { learned: 0 })
  const error = await t.throwsAsync(a.host.open(b.host.peerId, protocol, { signal: never }), {
    instanceOf: HearthError,
  })
  t.is(error?.code, 'forbidden')
})

test.serial('at most so many strangers are let in at once', async (t) => {
  const limits = { strangersMax: 2, helloMs: 10_000 }
  const peer = await startPeer(t, createRealm(), { limits })
  const closed = new Set<number>()
  const strangers = await Promise.all([1, 2, 3, 4, 5].map(() => startStranger(t)))
  for (const [index, stranger] of strangers.entries()) {
    stranger.addEventListener('connection:close', () => closed.add(index))
    await stranger.dial(addressOf(peer)).catch(() => closed.add(index))
  }
  await eventually(() => closed.size >= 3, 'the refusal of three strangers')
  t.is(strangers.filter((stranger) => stranger.getConnections().length > 0).length, 2)
})

test.serial(
  'a member is disconnected when its membership runs out, and comes back with a new one',
  async (t) => {
    const realm = createRealm()
    let aheadMs = 0
    const now = () => Date.now() + aheadMs
    const a = await startPeer(t, realm, { now, clockSlackMs: 0 })
    const b = await startPeer(t, realm, { lifetimeMs: 30_000 })
    introduce([a, b])
    await connected(a.host, b)
    const expelled = peerEvent(a.host, ({ type }) => type === 'expelled')
    aheadMs = 31_000
    t.deepEqual(await expelled, {
      type: 'expelled',
      peerId: b.host.peerId,
      reason: 'membership expired',
    })
    await eventually(() => a.host.member(b.host.peerId) === undefined, 'the end of the membership')
    b.renew({ lifetimeMs: 3_600_000 })
    await connected(a.host, b)
    t.true(a.host.member(b.host.peerId)?.connected)
  },
)

test.serial('a renewed membership reaches connected peers before the old one ends', async (t) => {
  const realm = createRealm()
  let aheadMs = 0
  const a = await startPeer(t, realm, { now: () => Date.now() + aheadMs, clockSlackMs: 0 })
  const b = await startPeer(t, realm, { lifetimeMs: 30_000 })
  introduce([a, b])
  await connected(a.host, b)
  let interrupted = false
  a.host.onPeer(({ type }) => {
    if (type !== 'connected') interrupted = true
  })
  b.renew({ lifetimeMs: 3_600_000 })
  const endsAtMs = () => a.host.member(b.host.peerId)?.membership.expiresAtMs ?? 0
  await eventually(() => endsAtMs() > Date.now() + 60_000, 'the renewed membership')
  aheadMs = 31_000
  await eventually(() => a.host.member(b.host.peerId)?.connected === true, 'a connected peer')
  t.false(interrupted)
})

test.serial(
  'peers whose clocks are an hour apart, either way, are members to each other',
  async (t) => {
    const realm = createRealm()
    const hourMs = 60 * 60_000
    const fast = await startPeer(t, realm, { now: () => Date.now() + hourMs })
    const slow = await startPeer(t, realm, { now: () => Date.now() - hourMs })
    introduce([fast, slow])
    await Promise.all([connected(fast.host, slow), connected(slow.host, fast)])
    t.pass()
  },
)

test.serial(
  'who was expelled stays out, after a restart too, until the coordinator says otherwise',
  async (t) => {
    const realm = createRealm()
    const b = await startPeer(t, realm)
    let a = await startPeer(t, realm)
    introduce([a, b])
    await connected(a.host, b)
    const expelled = peerEvent(a.host, ({ type }) => type === 'expelled')
    a.host.setExpelled([b.host.peerId])
    t.deepEqual(await expelled, { type: 'expelled', peerId: b.host.peerId, reason: 'taken back' })
    await a.stop()
    a = await startPeer(t, realm, { folder: a.folder })
    b.renew({ issuedAtMs: Date.now() + 1_000 })
    t.deepEqual(a.host.learn([b.membership()]), { learned: 0 })
    t.is(a.host.member(b.host.peerId), undefined)
    const heardOf: string[] = []
    a.host.onMember(({ peerId }) => heardOf.push(peerId))
    a.host.setExpelled([])
    a.host.learn([b.membership()])
    await connected(a.host, b)
    t.deepEqual(heardOf, [b.host.peerId])
  },
)

test.serial(
  'after a restart of both, without anybody to introduce them, members find each other',
  async (t) => {
    const realm = createRealm()
    let [a, b] = [await startPeer(t, realm), await startPeer(t, realm)]
    introduce([a, b])
    await connected(a.host, b)
    const ids = [a.host.peerId, b.host.peerId]
    const [listenA, listenB] = [a.host.addresses(), b.host.addresses()]
    await a.stop()
    await b.stop()
    a = await startPeer(t, realm, { folder: a.folder, listen: listenA })
    b = await startPeer(t, realm, { folder: b.folder, listen: listenB })
    t.deepEqual([a.host.peerId, b.host.peerId], ids)
    await Promise.all([connected(a.host, b), connected(b.host, a)])
  },
)

test.serial(
  'a newcomer reaches members that were not told of it, whichever peer id is lower',
  async (t) => {
    const realm = createRealm()
    const old = await startPeer(t, realm)
    for (let count = 0; count < 4; count += 1) {
      const newcomer = await startPeer(t, realm)
      newcomer.host.learn([old.membership()])
      await Promise.all([connected(newcomer.host, old), connected(old.host, newcomer)])
    }
    t.is(old.host.members().length, 4)
  },
)

test.serial('thirty hosts on one address connect to one at once', async (t) => {
  const realm = createRealm()
  const hub = await startPeer(t, realm)
  const spokes = await Promise.all(Array.from({ length: 30 }, () => startPeer(t, realm)))
  for (const spoke of spokes) spoke.host.learn([hub.membership()])
  await eventually(
    () => hub.host.members().filter(({ connected }) => connected).length === 30,
    'thirty connected peers',
  )
  t.pass()
})

test.serial('a slow reader stops the writer instead of piling messages up', async (t) => {
  const realm = createRealm()
  const [a, b] = [await startPeer(t, realm), await startPeer(t, realm)]
  const streams = Promise.withResolvers<FramedStream>()
  await b.host.handle(protocol, (stream) => streams.resolve(stream))
  introduce([a, b])
  await connected(a.host, b)
  const writer = await a.host.open(b.host.peerId, protocol, { signal: never })
  const frame = randomBytes(200_000)
  const count = 100
  let written = 0
  const writing = (async () => {
    for (; written < count; written += 1) await writer.write(frame, { signal: never })
  })()
  const reader = await streams.promise
  // What both sides may hold: read ahead, the window, and what libp2p and the kernel have on their way.
  let before = -1
  await eventually(() => {
    const stands = written === before && written > 0
    before = written
    return stands
  }, 'a writer that waits')
  t.true(written < 60, `${written} messages went out unread`)
  for (let index = 0; index < count; index += 1) {
    const got = await within(reader.read({ signal: never }), `message ${index}`)
    if (got === undefined || Buffer.compare(got, frame) !== 0) return t.fail(`message ${index}`)
  }
  await writing
  t.is(written, count)
})

test.serial('a peer that takes nothing for too long costs a deadline, not memory', async (t) => {
  const [idle, writer] = [await startStranger(t, ['/ip4/127.0.0.1/tcp/0']), await startStranger(t)]
  await idle.handle(protocol, (stream) => stream.pause())
  const connection = await writer.dial(idle.getMultiaddrs())
  const stream = frameStream(await connection.newStream(protocol), { writeStallMs: 300 })
  const error = await t.throwsAsync(
    async () => {
      for (let count = 0; count < 100; count += 1) {
        await stream.write(randomBytes(300_000), { signal: never })
      }
    },
    { instanceOf: HearthError },
  )
  t.is(error?.code, 'deadline')
  t.true(stream.ended.aborted)
})

test.serial('an address that is taken is told at the start', async (t) => {
  const realm = createRealm()
  const first = await startPeer(t, realm)
  const error = await t.throwsAsync(startPeer(t, realm, { listen: first.host.addresses() }), {
    instanceOf: HearthError,
  })
  t.is(error?.code, 'environment')
  t.truthy(error?.hint)
})
