import { generateKeyPairSync } from 'node:crypto'
import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import fc from 'fast-check'
import { type Digest, digestOf } from '../../core/digest.ts'
import { silentLogger } from '../../core/log.ts'
import { makeScope } from '../../core/scope.ts'
import { fragmentsPerScopeMax, signedFragmentBytesMax } from '../limits.ts'
import { createMembershipVerifier, issueMembership } from '../membership/index.ts'
import {
  connected,
  createRealm,
  eventually,
  introduce,
  type Peer,
  type PeerOptions,
  patienceMs,
  type Realm,
  startPeer,
} from '../peers.fixture.ts'
import { createFragmentNews, type FragmentNews, type KnownFragment } from './index.ts'
import { encodeMessage, fragmentsProtocol } from './messages.ts'
import { openStatement, readStatement, sealStatement } from './statement.ts'

const scope = makeScope('app', 'main')
const other = makeScope('app', 'fork')

interface Newsroom {
  readonly peer: Peer
  readonly news: FragmentNews
  stop(): Promise<void>
}

async function startNews(
  t: ExecutionContext,
  realm: Realm,
  options: PeerOptions = {},
): Promise<Newsroom> {
  const peer = await startPeer(t, realm, options)
  const news = await createFragmentNews(
    {
      host: peer.host,
      identity: peer.identity,
      verifier: createMembershipVerifier({ publicKeys: [realm.publicKey] }),
      log: options.log ?? silentLogger,
    },
    { folder: path.join(peer.folder, 'fragments'), relayMs: 50 },
  )
  let stopped: Promise<void> | undefined
  const end = async (): Promise<void> => {
    await news[Symbol.asyncDispose]()
    await peer.stop()
  }
  const stop = (): Promise<void> => {
    stopped ??= end()
    return stopped
  }
  t.teardown(stop)
  return { peer, news, stop }
}

async function meet(...rooms: readonly Newsroom[]): Promise<void> {
  introduce(rooms.map(({ peer }) => peer))
  for (const one of rooms) {
    for (const two of rooms) if (one !== two) await connected(one.peer.host, two.peer)
  }
}

const say = ({ news }: Newsroom, name: string, sequence: number, more = {}) =>
  news.publish({ scope, digest: digestOf(name), size: name.length, sequence, ...more })

const namesOf = ({ news }: Newsroom, in_ = scope): Digest[] =>
  news.of(in_).map(({ statement }) => statement.digest)

const knows = (room: Newsroom, ...names: string[]) =>
  eventually(
    () => names.every((name) => namesOf(room).includes(digestOf(name))),
    `the news of ${names.join(', ')}`,
  )

test('what one says, all others hear, with its maker and in its order', async (t) => {
  const realm = createRealm()
  const [one, two, three] = await Promise.all([1, 2, 3].map(() => startNews(t, realm)))
  if (one === undefined || two === undefined || three === undefined) return t.fail()
  await meet(one, two, three)
  const heard: KnownFragment[] = []
  using _listening = two.news.onNews((fragment) => heard.push(fragment))
  await say(one, 'b', 2)
  await say(one, 'a', 1, { isKept: true })
  await say(three, 'c', 2)
  for (const room of [one, two, three]) {
    await knows(room, 'a', 'b', 'c')
    t.deepEqual(
      namesOf(room),
      [digestOf('a'), ...[digestOf('b'), digestOf('c')].sort()],
      'by sequence, then by digest',
    )
    t.is(room.news.latest(scope), 2)
    t.deepEqual(room.news.scopes(), [scope])
    t.deepEqual(room.news.of(other), [])
  }
  t.deepEqual(heard.map(({ statement }) => statement.digest).sort(), namesOf(two).sort())
  const [first] = two.news.of(scope)
  t.deepEqual(first?.statement, {
    scope,
    digest: digestOf('a'),
    size: 1,
    sequence: 1,
    isKept: true,
    maker: one.peer.identity.peerId,
  })
})

test('of one fragment the last word counts, and a word that was said before changes nothing', async (t) => {
  const realm = createRealm()
  const [one, two] = await Promise.all([1, 2].map(() => startNews(t, realm)))
  if (one === undefined || two === undefined) return t.fail()
  await meet(one, two)
  const old = await say(one, 'a', 3)
  await say(one, 'a', 3, { isKept: true })
  await eventually(
    () => two.news.of(scope)[0]?.statement.isKept === true,
    'the word that it is kept',
  )
  t.true(await two.news.add(old.signed))
  t.true(two.news.of(scope)[0]?.statement.isKept)
  await say(one, 'a', 7, { isKept: true })
  await eventually(() => two.news.latest(scope) === 7, 'the new sequence')
  t.is(two.news.of(scope).length, 1)
})

test('who was away hears what was said meanwhile, and both know again what they knew', async (t) => {
  const realm = createRealm()
  const one = await startNews(t, realm)
  const two = await startNews(t, realm)
  await meet(one, two)
  await say(one, 'a', 1)
  await say(two, 'b', 1)
  await knows(two, 'a')
  await knows(one, 'b')
  const { folder } = two.peer
  await two.stop()
  await say(one, 'c', 2)
  const again = await startNews(t, realm, { folder })
  t.deepEqual(namesOf(again).sort(), [digestOf('a'), digestOf('b')].sort())
  const heard: Digest[] = []
  using _listening = again.news.onNews(({ statement }) => heard.push(statement.digest))
  t.is(heard.length, 2, 'what is known at the start comes at once')
  await meet(one, again)
  await knows(again, 'a', 'b', 'c')
  // It is known a moment before it is told.
  await eventually(() => heard.length > 2, 'word of what was said meanwhile')
  t.deepEqual(heard.slice(2), [digestOf('c')])
})

test('the dead speak through others, also to those who have never heard of them', async (t) => {
  const realm = createRealm()
  // Its membership has run out by the time that the third one comes.
  const dead = await startNews(t, realm, { lifetimeMs: 60_000 })
  const witness = await startNews(t, realm)
  await meet(dead, witness)
  await say(dead, 'a', 1)
  await knows(witness, 'a')
  await dead.stop()
  const later = await startNews(t, realm)
  later.peer.host.learn([witness.peer.membership()])
  witness.peer.host.learn([later.peer.membership()])
  await knows(later, 'a')
  t.is(later.peer.host.member(dead.peer.identity.peerId), undefined)
  const [known] = later.news.of(scope)
  const inTwoDays = createMembershipVerifier({
    publicKeys: [realm.publicKey],
    now: () => Date.now() + 48 * 60 * 60_000,
  })
  t.is(known && openStatement(known.signed, inTwoDays).maker, dead.peer.identity.peerId)
})

test('what a maker could not tell somebody, others hand on', async (t) => {
  const realm = createRealm()
  const [one, two, three] = await Promise.all([1, 2, 3].map(() => startNews(t, realm)))
  if (one === undefined || two === undefined || three === undefined) return t.fail()
  await meet(one, two)
  await meet(two, three)
  await say(one, 'a', 1)
  await knows(three, 'a')
  t.is(three.peer.host.member(one.peer.identity.peerId), undefined, 'the two never met')
})

test('a statement that its maker did not sign, or that no member made, counts nowhere', async (t) => {
  const realm = createRealm()
  const room = await startNews(t, realm)
  const { membership, identity } = room.peer
  const real = room.news.sign({ scope, digest: digestOf('a'), size: 1, sequence: 1 })
  t.deepEqual(namesOf(room), [], 'what is only signed is told to nobody')

  for (let at = 0; at < real.signed.length; at += 1) {
    const changed = Buffer.from(real.signed)
    changed[at] = (changed[at] ?? 0) ^ 1
    t.false(await room.news.add(changed), `byte ${at}`)
  }
  for (const length of [0, 1, 65, 66, 100, real.signed.length - 1]) {
    t.false(await room.news.add(real.signed.subarray(0, length)), `${length} bytes`)
  }
  t.false(await room.news.add(Buffer.alloc(signedFragmentBytesMax + 1)))

  const { signingKey, peerId } = identity
  const statement = { ...real.statement, digest: digestOf('b') }
  const stranger = generateKeyPairSync('ed25519').privateKey
  const forged = sealStatement(statement, { signingKey: stranger, membership: membership() })
  t.false(await room.news.add(forged.signed), 'in the name of another')
  const elsewhere = issueMembership(
    createRealm().privateKey,
    { peerId, nodeId: 'n', roles: [], addresses: [], bulkAddress: '' },
    { nowMs: Date.now(), lifetimeMs: 60_000 },
  )
  const enrolled = sealStatement(statement, { signingKey, membership: elsewhere })
  t.false(await room.news.add(enrolled.signed), 'by a member of somewhere else')
  const guest = await startNews(t, realm)
  const borrowed = sealStatement(
    { ...statement, maker: guest.peer.identity.peerId },
    { signingKey: guest.peer.identity.signingKey, membership: membership() },
  )
  t.false(await room.news.add(borrowed.signed), "with another's membership")
  t.deepEqual(namesOf(room), [])
  t.true(await room.news.add(real.signed))
  t.deepEqual(namesOf(room), [digestOf('a')])
})

test('a peer that tells forged statements is not listened to, and its name is in the log', async (t) => {
  const realm = createRealm()
  const lines: string[] = []
  const log = { ...silentLogger, warn: (...words: unknown[]) => lines.push(JSON.stringify(words)) }
  const honest = await startNews(t, realm, { log: Object.assign(Object.create(silentLogger), log) })
  const liar = await startPeer(t, realm)
  introduce([honest.peer, liar])
  await connected(liar.host, honest.peer)
  const real = honest.news.sign({ scope, digest: digestOf('a'), size: 1, sequence: 1 })
  const forged = Buffer.from(real.signed)
  forged[70] = (forged[70] ?? 0) ^ 1
  const signal = AbortSignal.timeout(patienceMs)
  for (const frame of [encodeMessage({ type: 'statements', signed: [forged] }), Buffer.from('?')]) {
    lines.length = 0
    const stream = await liar.host.open(honest.peer.identity.peerId, fragmentsProtocol, { signal })
    await stream.write(frame, { signal })
    await eventually(() => lines.length > 0, 'a line in the log')
    t.true(lines.some((line) => line.includes(liar.identity.peerId)))
    stream.abort('done')
  }
  t.deepEqual(namesOf(honest), [])
})

test('what a member says after it was expelled does not count, whoever hands it on', async (t) => {
  const realm = createRealm()
  const [bad, one, two] = await Promise.all([1, 2, 3].map(() => startNews(t, realm)))
  if (bad === undefined || one === undefined || two === undefined) return t.fail()
  await meet(bad, one, two)
  await say(bad, 'before', 1)
  await knows(one, 'before')
  one.peer.host.setExpelled([bad.peer.identity.peerId])
  await say(bad, 'after', 2)
  await knows(two, 'after')
  await say(two, 'other', 3)
  await knows(one, 'other')
  const after = two.news.of(scope).find(({ statement }) => statement.digest === digestOf('after'))
  t.false(await one.news.add(after?.signed ?? Buffer.alloc(0)))
  t.deepEqual(namesOf(one), [digestOf('before'), digestOf('other')])

  // The coordinator lets it in again.
  one.peer.host.setExpelled([])
  t.true(await one.news.add(after?.signed ?? Buffer.alloc(0)))
  await knows(one, 'before', 'after', 'other')
})

test('an expelled maker is still one after a restart', async (t) => {
  const realm = createRealm()
  const [bad, one] = await Promise.all([1, 2].map(() => startNews(t, realm)))
  if (bad === undefined || one === undefined) return t.fail()
  await meet(bad, one)
  one.peer.host.setExpelled([bad.peer.identity.peerId])
  const { folder } = one.peer
  await one.stop()
  const again = await startNews(t, realm, { folder })
  const late = bad.news.sign({ scope, digest: digestOf('a'), size: 1, sequence: 1 })
  t.false(await again.news.add(late.signed))
})

test('what was forgotten is not brought back, until it is said anew', async (t) => {
  const realm = createRealm()
  const [one, two] = await Promise.all([1, 2].map(() => startNews(t, realm)))
  if (one === undefined || two === undefined) return t.fail()
  await meet(one, two)
  const gone = await say(one, 'gone', 1)
  await say(one, 'stays', 2)
  await knows(two, 'gone', 'stays')
  await two.news.forget(scope, [digestOf('gone'), digestOf('unknown')])
  t.deepEqual(namesOf(two), [digestOf('stays')])
  t.true(await two.news.add(gone.signed))
  const { folder } = two.peer
  await two.stop()
  const again = await startNews(t, realm, { folder })
  await meet(one, again)
  await say(one, 'next', 3)
  await knows(again, 'next')
  t.deepEqual(namesOf(again), [digestOf('stays'), digestOf('next')])
  t.is(again.news.latest(scope), 3)
  await say(one, 'gone', 4)
  await knows(again, 'gone')
  // What only a forgotten statement said of the sequence still counts.
  await again.news.forget(scope, namesOf(again))
  t.is(again.news.latest(scope), 4)
})

test('whoever floods a scope pushes out its own, and not what others said', async (t) => {
  const realm = createRealm()
  const [flood, one] = await Promise.all([1, 2].map(() => startNews(t, realm)))
  if (flood === undefined || one === undefined) return t.fail()
  await say(one, 'mine', 1)
  const many = fragmentsPerScopeMax + 20
  for (let each = 0; each < many; each += 1) await say(flood, `flood ${each}`, 10 + each)
  await meet(flood, one)
  await knows(one, `flood ${many - 1}`)
  await eventually(() => namesOf(one).length === fragmentsPerScopeMax, 'a full scope')
  t.true(namesOf(one).includes(digestOf('mine')))
  t.false(namesOf(one).includes(digestOf('flood 0')))
})

test('a statement reads as it was written, and is no other than itself', (t) => {
  const { privateKey } = generateKeyPairSync('ed25519')
  const name = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,5}[a-z0-9])?$/)
  fc.assert(
    fc.property(
      fc.record({
        scope: fc.record({ project: name, line: name }),
        digest: fc.string().map((text) => digestOf(text)),
        size: fc.nat(2 ** 40),
        sequence: fc.nat(2 ** 40),
        isKept: fc.boolean(),
        maker: fc.constantFrom('12D3KooWA', '12D3KooWB'),
      }),
      fc.uint8Array({ maxLength: 400 }),
      (statement, membership) => {
        const { signed } = sealStatement(statement, { signingKey: privateKey, membership })
        t.deepEqual(readStatement(signed), statement)
      },
    ),
  )
})
