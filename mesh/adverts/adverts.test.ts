import { spawn } from 'node:child_process'
import { cp } from 'node:fs/promises'
import path from 'node:path'
import { createInterface } from 'node:readline'
import test from 'ava'
import fc from 'fast-check'
import { createLogger } from '../../core/log.ts'
import type { Entry } from '../digest-index/index.ts'
import { byKey, contentOf, testKey } from '../digest-index/temporary-index.fixture.ts'
import {
  connected,
  createRealm,
  eventually,
  introduce,
  peerEvent,
  temporaryFolder,
  within,
} from '../peers.fixture.ts'
import {
  type Advertiser,
  caughtUp,
  contentOfLog,
  held,
  startAdvertiser,
  startProxy,
} from './advertisers.fixture.ts'
import { sealNews } from './envelope.ts'
import { advertsProtocol, decodeMessage, encodeMessage } from './messages.ts'

const never = new AbortController().signal

function whoHolds(at: Advertiser, number: number): (string | undefined)[] {
  const [found] = at.index.holders([testKey(number)])
  return Array.from(found?.holders ?? [], (tag) => at.index.nodeOf(tag))
}

test.serial(
  'what one of ten publishes all know, what it withdraws none has any more',
  async (t) => {
    const realm = createRealm()
    const all = await Promise.all(Array.from({ length: 10 }, () => startAdvertiser(t, realm)))
    introduce(all)
    const [one] = all
    if (one === undefined) return t.fail()
    await one.adverts.publish([held(1), { ...held(2), heat: 'hot' }])
    t.deepEqual(whoHolds(one, 1), [one.host.peerId], 'it knows itself when the call resolves')
    for (const other of all) await caughtUp(other, one)
    for (const other of all) t.deepEqual(whoHolds(other, 1), [one.host.peerId])

    await one.adverts.withdraw([testKey(1), testKey(77)])
    t.deepEqual(whoHolds(one, 1), [])
    for (const other of all) {
      await caughtUp(other, one)
      t.deepEqual(whoHolds(other, 1), [])
      t.deepEqual(contentOf(other.index, one.host.peerId), contentOfLog(one.advertLog))
    }
  },
)

test.serial('when BuildKit has another state nothing is hot any more', async (t) => {
  const one = await startAdvertiser(t, createRealm())
  await one.adverts.publish([held(1), { ...held(2), heat: 'hot' }])
  await one.adverts.cool()
  t.deepEqual(
    Array.from(one.index.entries(one.host.peerId), ({ heat }) => heat),
    ['held', 'held'],
  )
  const before = one.adverts.position()
  await one.adverts.publish([held(1)])
  t.deepEqual(one.adverts.position(), before, 'what is no news is not told')
})

test.serial('at a start the log is made to say what the store holds', async (t) => {
  const one = await startAdvertiser(t, createRealm())
  await one.adverts.publish([held(1), held(2), held(3)])
  const store = [held(2), held(3, 500), held(4)].sort(byKey)
  t.deepEqual(await one.adverts.reconcile(store), { gained: 2, lost: 1 })
  t.deepEqual(await one.adverts.reconcile(store), { gained: 0, lost: 0 })
  t.is(contentOfLog(one.advertLog).length, 3)
})

test.serial('who missed more than the log keeps gets a snapshot', async (t) => {
  const realm = createRealm()
  const one = await startAdvertiser(t, realm, { batchesMax: 3 })
  const many = Array.from({ length: 30_000 }, (_, number) => held(number))
  await one.adverts.publish(many)
  for (let number = 0; number < 6; number += 1) await one.adverts.withdraw([testKey(number)])
  t.is(one.advertLog.batch(1), undefined, 'the first batches are gone')
  const late = await startAdvertiser(t, realm)
  introduce([one, late])
  await caughtUp(late, one)
  const wanted = contentOfLog(one.advertLog)
  t.is(wanted.length, 30_000 - 6)
  t.deepEqual(contentOf(late.index, one.host.peerId), wanted)
})

test.serial('after a restart of the reader only what it missed is sent', async (t) => {
  const realm = createRealm()
  const [one, reader] = [await startAdvertiser(t, realm), await startAdvertiser(t, realm)]
  introduce([one, reader])
  await one.adverts.publish([held(1)])
  await caughtUp(reader, one)
  const number = reader.index.numberOf(one.host.peerId)
  await reader.stop()
  await one.adverts.publish([held(2)])
  const again = await startAdvertiser(t, realm, { folder: reader.folder })
  introduce([one, again])
  await caughtUp(again, one)
  t.deepEqual(whoHolds(again, 1), [one.host.peerId])
  t.deepEqual(whoHolds(again, 2), [one.host.peerId])
  t.is(again.index.numberOf(one.host.peerId), number, 'a snapshot would have given a new number')
})

test.serial(
  'a folder put back to an older state starts its log anew, and all follow',
  async (t) => {
    const realm = createRealm()
    const [one, reader] = [await startAdvertiser(t, realm), await startAdvertiser(t, realm)]
    await one.adverts.publish([held(1)])
    await one.stop()
    const copy = await temporaryFolder(t)
    await cp(one.folder, copy, { recursive: true })
    const second = await startAdvertiser(t, realm, { folder: one.folder })
    introduce([second, reader])
    await second.adverts.publish([held(2)])
    await second.adverts.withdraw([testKey(1)])
    await caughtUp(reader, second)
    const { epoch } = second.adverts.position()
    await second.stop()
    const old = await startAdvertiser(t, realm, { folder: copy })
    introduce([old, reader])
    await eventually(() => old.adverts.position().epoch > epoch, 'a new epoch')
    await caughtUp(reader, old)
    t.deepEqual(contentOf(reader.index, old.host.peerId), contentOfLog(old.advertLog))
    t.deepEqual(whoHolds(reader, 1), [old.host.peerId])
    t.deepEqual(whoHolds(reader, 2), [])
  },
)

test.serial(
  'a partition makes a peer dead, and healing brings it back with its news',
  async (t) => {
    const realm = createRealm()
    const proxies = [await startProxy(t), await startProxy(t)] as const
    const limits = { pingIntervalMs: 300, pingTimeoutMs: 1_000 }
    const make = async (proxy: (typeof proxies)[number]) =>
      await startAdvertiser(t, realm, { announced: proxy.announced, limits, ackStallMs: 2_000 })
    const [a, b] = [await make(proxies[0]), await make(proxies[1])]
    introduce([a, b])
    await b.adverts.publish([held(1)])
    await caughtUp(a, b)
    await eventually(() => whoHolds(a, 1).length === 1, 'a living holder')
    for (const { partition } of proxies) partition.cut()
    await b.adverts.publish([held(2)])
    await peerEvent(a.host, ({ type }) => type === 'disconnected')
    t.deepEqual(whoHolds(a, 1), [], 'the dead are not asked')
    for (const { partition } of proxies) partition.heal()
    await caughtUp(a, b)
    await eventually(() => whoHolds(a, 2).length === 1, 'news from behind the partition')
    t.deepEqual(whoHolds(a, 1), [b.host.peerId])
  },
)

test.serial('a killed peer is dead at once, and back with all that it had said', async (t) => {
  const realm = createRealm()
  const a = await startAdvertiser(t, realm)
  const folder = await temporaryFolder(t)
  const pem = realm.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
  const live = async (first: number, count: number) => {
    const file = path.join(import.meta.dirname, 'killed-peer.fixture.ts')
    const other = Buffer.from(a.membership()).toString('base64')
    const child = spawn(process.execPath, [file, folder, pem, other, `${first}`, `${count}`], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    t.teardown(() => child.kill('SIGKILL'))
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    await within(lines.next(), 'the membership of the child')
    await within(lines.next(), 'the adverts of the child')
    return child
  }
  const child = await live(0, 500)
  const [peerId] = await within(
    (async () => {
      await eventually(() => whoHolds(a, 499).length === 1, 'adverts of the child')
      return whoHolds(a, 499)
    })(),
    'the child',
  )
  const gone = peerEvent(a.host, ({ type }) => type === 'disconnected')
  child.kill('SIGKILL')
  await gone
  t.deepEqual(whoHolds(a, 499), [])
  const second = await live(500, 500)
  await eventually(() => whoHolds(a, 999).length === 1, 'adverts of its second life')
  t.deepEqual([whoHolds(a, 0), whoHolds(a, 999)], [[peerId], [peerId]])
  second.kill('SIGKILL')
})

/** A member that writes what it likes on an adverts stream. */
async function liar(t: Parameters<typeof startAdvertiser>[0]) {
  const lines: Record<string, unknown>[] = []
  const log = createLogger('info', { write: (line) => void lines.push(JSON.parse(line)) })
  const realm = createRealm()
  const [reader, honest] = [
    await startAdvertiser(t, realm, { log }),
    await startAdvertiser(t, realm),
  ]
  const lying = await startAdvertiser(t, realm)
  introduce([reader, honest, lying])
  await honest.adverts.publish([held(1)])
  await caughtUp(reader, honest)
  await connected(lying.host, reader)
  const stream = await lying.host.open(reader.host.peerId, advertsProtocol, { signal: never })
  const answer = async () => {
    const frame = await stream.read({ signal: never }).catch(() => undefined)
    return frame === undefined ? undefined : decodeMessage(frame)
  }
  t.is((await answer())?.type, 'have')
  const send = (sealed: Uint8Array) =>
    stream.write(encodeMessage({ type: 'news', sealed }), { signal: never })
  return { reader, honest, lying, send, answer, lines }
}

test.serial(
  'news that a member forges in the name of another are refused, and the log names it',
  async (t) => {
    const { reader, honest, lying, send, answer, lines } = await liar(t)
    const { epoch, sequence } = honest.adverts.position()
    const forged = sealNews(
      {
        type: 'batch',
        publisher: honest.host.peerId,
        position: { epoch, sequence: sequence + 1 },
        changes: [{ type: 'lost', key: testKey(1) }],
      },
      lying.identity.signingKey,
    )
    await send(forged)
    t.is(await answer(), undefined, 'the stream is ended')
    t.deepEqual(whoHolds(reader, 1), [honest.host.peerId])
    t.true(
      lines.some(
        ({ peer, reason }) => peer === lying.host.peerId && /not signed/.test(`${reason}`),
      ),
    )
  },
)

test.serial('news with a flipped bit are refused', async (t) => {
  const { reader, honest, send, answer } = await liar(t)
  const sealed = Buffer.from(honest.advertLog.batch(honest.adverts.position().sequence) ?? [])
  sealed[sealed.length - 1] = (sealed.at(-1) ?? 0) ^ 1
  await send(sealed)
  t.is(await answer(), undefined)
  t.is(contentOf(reader.index, honest.host.peerId).length, 1)
})

test.serial('relayed news count, also news that come a second time, but only once', async (t) => {
  const { reader, honest, send, answer } = await liar(t)
  const { epoch, sequence } = honest.adverts.position()
  const signed = (
    at: number,
    changes: Parameters<typeof sealNews>[0] extends infer N
      ? N extends { changes: infer C }
        ? C
        : never
      : never,
  ) =>
    sealNews(
      { type: 'batch', publisher: honest.host.peerId, position: { epoch, sequence: at }, changes },
      honest.identity.signingKey,
    )
  await send(signed(sequence + 1, [{ type: 'gained', entry: held(9) }]))
  t.is((await answer())?.type, 'acknowledged')
  t.deepEqual(whoHolds(reader, 9), [honest.host.peerId])
  await send(signed(sequence + 2, [{ type: 'lost', key: testKey(9) }]))
  t.is((await answer())?.type, 'acknowledged')
  await send(signed(sequence + 1, [{ type: 'gained', entry: held(9) }]))
  const again = await answer()
  t.deepEqual(again, {
    type: 'acknowledged',
    publisher: honest.host.peerId,
    position: { epoch, sequence: sequence + 2 },
  })
  t.deepEqual(whoHolds(reader, 9), [], 'an old batch brings nothing back')
  await send(signed(sequence + 4, [{ type: 'gained', entry: held(9) }]))
  t.is((await answer())?.type, 'have', 'a gap is asked for, not applied')
  t.deepEqual(whoHolds(reader, 9), [])
})

const step = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      type: fc.constant('publish' as const),
      numbers: fc.array(fc.nat(60), { minLength: 1, maxLength: 12 }),
      heat: fc.constantFrom('hot' as const, 'held' as const),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      type: fc.constant('withdraw' as const),
      numbers: fc.array(fc.nat(60), { minLength: 1, maxLength: 12 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('cool' as const) }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('restart' as const) }) },
)

test.serial('after random histories every index says what every log says', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.nat(2), step), { minLength: 10, maxLength: 40 }),
      async (steps) => {
        const realm = createRealm()
        const peers: Advertiser[] = []
        for (let count = 0; count < 3; count += 1) {
          peers.push(await startAdvertiser(t, realm, { batchesMax: 3 }))
        }
        introduce(peers)
        for (const [which, one] of steps) {
          const peer = peers[which]
          if (peer === undefined) continue
          if (one.type === 'restart') {
            await peer.stop()
            peers[which] = await startAdvertiser(t, realm, { folder: peer.folder, batchesMax: 3 })
            introduce(peers)
          } else if (one.type === 'cool') await peer.adverts.cool()
          else if (one.type === 'withdraw') await peer.adverts.withdraw(one.numbers.map(testKey))
          else {
            const entries = one.numbers.map(
              (number): Entry => ({ ...held(number), heat: one.heat }),
            )
            // Not awaited by everybody: withdrawals may overtake the gathering of gains.
            const published = peer.adverts.publish(entries)
            if (one.numbers.length % 2 === 0) await published
            else published.catch(() => {})
          }
        }
        for (const publisher of peers) await publisher.adverts.withdraw([])
        for (const reader of peers) {
          for (const publisher of peers) {
            await caughtUp(reader, publisher)
            const known = contentOf(reader.index, publisher.host.peerId)
            const said = contentOfLog(publisher.advertLog)
            if (known.join() !== said.join()) throw new Error(`${known}\nis not\n${said}`)
          }
        }
        await Promise.all(peers.map((peer) => peer.stop()))
      },
    ),
    { numRuns: 6, interruptAfterTimeLimit: 60_000 },
  )
  t.pass()
})
