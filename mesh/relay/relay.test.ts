import test, { type ExecutionContext } from 'ava'
import {
  type Advertiser,
  type AdvertiserOptions,
  contentOfLog,
  held,
  startAdvertiser,
} from '../adverts/advertisers.fixture.ts'
import { contentOf } from '../digest-index/temporary-index.fixture.ts'
import { createRealm, eventually, introduce, type Realm } from '../peers.fixture.ts'

/** A busy machine shakes hands slowly. */
const limitMs = 120_000

const relay = { fullMeshMax: 5, gapMs: 100, hubPatienceMs: 1_000, presenceGraceMs: 3_000 }

async function startMany(
  t: ExecutionContext,
  realm: Realm,
  count: number,
  options: AdvertiserOptions = {},
): Promise<Advertiser[]> {
  const started: Advertiser[] = []
  for (let index = 0; index < count; index += 1) {
    started.push(await startAdvertiser(t, realm, { relay, ...options }))
  }
  return started
}

const hubRoles = { roles: ['node', 'hub'] }

/** Resolves when every living one knows all that every living one has said, and that it lives. */
async function allKnowAll(peers: readonly Advertiser[]): Promise<void> {
  const lacking = () =>
    peers.flatMap((reader) =>
      peers.filter((publisher) => {
        if (publisher === reader) return false
        const known = reader.index.position(publisher.host.peerId)
        const { epoch, sequence } = publisher.adverts.position()
        const isCaughtUp = sequence === 0 || (known?.epoch === epoch && known.sequence === sequence)
        return !isCaughtUp || !reader.relay.isPresent(publisher.host.peerId)
      }),
    )
  await eventually(() => lacking().length === 0, 'all news', limitMs)
}

/** How often each has applied each news, by publisher and position. */
function countApplied(peers: readonly Advertiser[]) {
  const counts = new Map<string, number>()
  for (const { desk, host } of peers) {
    desk.onApplied(({ publisher, position }) => {
      const key = `${host.peerId} ${publisher} ${position.epoch} ${position.sequence}`
      counts.set(key, (counts.get(key) ?? 0) + 1)
    })
  }
  return counts
}

const connectionsOf = ({ host }: Advertiser) =>
  host.members().filter(({ connected }) => connected).length

test.serial(
  'over three hubs fifteen peers hear of everything once; when a hub dies the others take over',
  async (t) => {
    const realm = createRealm()
    const hubs = await startMany(t, realm, 3, hubRoles)
    const nodes = await startMany(t, realm, 12)
    const all = [...hubs, ...nodes]
    const applied = countApplied(all)
    // As the coordinator would: everybody is told of the hubs, and the rest comes over them.
    for (const peer of all) peer.host.learn(hubs.map((hub) => hub.membership()))
    for (const [number, peer] of all.entries()) await peer.adverts.publish([held(number)])
    await allKnowAll(all)
    for (const node of nodes) {
      await eventually(() => connectionsOf(node) <= 3, 'the end of passing connections', limitMs)
      t.is(node.host.members().length, all.length - 1, 'it has heard of all members')
    }
    t.deepEqual(
      [...applied].filter(([, times]) => times !== 1),
      [],
      'nothing is applied twice',
    )

    const [dying, ...survivors] = hubs
    await dying?.stop()
    const living = [...survivors, ...nodes]
    for (const [number, peer] of living.entries()) {
      await peer.adverts.publish([held(100 + number)])
      await peer.adverts.withdraw([held(number).key])
    }
    await allKnowAll(living)
    for (const reader of living) {
      await eventually(
        () => reader.relay.isPresent(dying?.host.peerId ?? '') === false,
        'the end of the dead hub',
        limitMs,
      )
      for (const publisher of living) {
        t.deepEqual(
          contentOf(reader.index, publisher.host.peerId),
          contentOfLog(publisher.advertLog),
        )
      }
    }
    t.deepEqual(
      [...applied].filter(([, times]) => times !== 1),
      [],
    )
  },
)

test.serial(
  'who comes late, or to a hub that has just started, asks the publishers for what it lacks',
  async (t) => {
    const realm = createRealm()
    const hubs = await startMany(t, realm, 2, hubRoles)
    const nodes = await startMany(t, realm, 5, { batchesMax: 2 })
    introduce([...hubs, ...nodes])
    for (const [number, node] of nodes.entries()) {
      for (let round = 0; round < 4; round += 1) {
        await node.adverts.publish([held(number * 10 + round)])
      }
    }
    await allKnowAll([...hubs, ...nodes])
    // What the hubs had in memory goes with them; what they know stays.
    const again: Advertiser[] = []
    for (const hub of hubs) {
      await hub.stop()
      again.push(await startAdvertiser(t, realm, { relay, ...hubRoles, folder: hub.folder }))
    }
    introduce([...again, ...nodes])
    const late = await startAdvertiser(t, realm, { relay })
    late.host.learn(again.map((hub) => hub.membership()))
    await late.adverts.publish([held(999)])
    await allKnowAll([...again, ...nodes, late])
    for (const node of nodes) {
      t.deepEqual(contentOf(late.index, node.host.peerId), contentOfLog(node.advertLog))
    }
    await eventually(() => connectionsOf(late) === 2, 'the end of passing connections', limitMs)
  },
)

test.serial(
  'a node that becomes a hub, and one that is none any more, are taken as such',
  async (t) => {
    const realm = createRealm()
    const [first, second, third] = await startMany(t, realm, 3, hubRoles)
    const [next, ...nodes] = await startMany(t, realm, 7)
    if (!first || !second || !third || !next) return t.fail()
    const all = [first, second, third, next, ...nodes]
    introduce(all)
    await allKnowAll(all)
    next.renew({ roles: ['node', 'hub'], issuedAtMs: Date.now() + 1_000 })
    first.renew({ roles: ['node'], issuedAtMs: Date.now() + 1_000 })
    introduce(all)
    await eventually(() => next.relay.standing().isHub, 'a new hub', limitMs)
    const hubs = [second, third, next].map(({ host }) => host.peerId)
    for (const { relay: itsRelay, host } of all) {
      const others = hubs.filter((hub) => hub !== host.peerId)
      await eventually(
        () => {
          const chosen = itsRelay.standing().hubs
          return chosen.length === 2 && chosen.every((hub) => others.includes(hub))
        },
        'the new hubs',
        limitMs,
      )
    }
    for (const [number, peer] of all.entries()) await peer.adverts.publish([held(number)])
    await allKnowAll(all)
    for (const peer of [first, ...nodes]) {
      await eventually(() => connectionsOf(peer) === 2, 'the end of passing connections', limitMs)
    }
    t.pass()
  },
)
