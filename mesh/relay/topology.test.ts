import test from 'ava'
import fc from 'fast-check'
import type { Membership } from '../membership/index.ts'
import { chooseHubs } from './choose-hubs.ts'
import { chooseTopology } from './topology.ts'

const member = (peerId: string, roles: readonly string[] = ['node']): Membership => ({
  ...{ peerId, nodeId: peerId, roles, addresses: [], bulkAddress: '', otherAddresses: [] },
  ...{ issuedAtMs: 0, expiresAtMs: 1 },
})

const mesh = (nodes: number, hubs: number): Membership[] =>
  Array.from({ length: nodes }, (_, index) =>
    member(`p${index}`, index < hubs ? ['node', 'hub'] : ['node']),
  )

const viewOf = (all: readonly Membership[], ownPeerId: string, down: readonly string[] = []) => ({
  ownPeerId,
  isHub: all.some(({ peerId, roles }) => peerId === ownPeerId && roles.includes('hub')),
  members: all.filter(({ peerId }) => peerId !== ownPeerId),
  isDown: (hub: string) => down.includes(hub),
})

test('whoever is in a mesh without hubs keeps everybody, however many they are', (t) => {
  for (const all of [mesh(80, 0), mesh(300, 0)]) {
    const topology = chooseTopology(viewOf(all, 'p50'), { fullMeshMax: 100 })
    t.true(topology.isFullMesh)
    t.deepEqual(topology.hubs, [])
    t.is(topology.tieTo('p7'), 'kept')
  }
})

test('where there are hubs news go both ways up to the limit, since not all count the same members', (t) => {
  for (const all of [mesh(4, 3), mesh(90, 3)]) {
    const topology = chooseTopology(viewOf(all, 'p3'), { fullMeshMax: 100 })
    t.true(topology.isFullMesh)
    t.is(topology.tieTo('p2'), 'kept')
    t.is(topology.hubs.length, 2, 'a newcomer hears of the others from them')
  }
})

test('above it a node keeps two hubs, another in the place of each that is down', (t) => {
  const all = mesh(200, 4)
  const { hubs, tieTo } = chooseTopology(viewOf(all, 'p50'), { fullMeshMax: 100 })
  t.is(hubs.length, 2)
  t.is(tieTo(hubs[0] ?? ''), 'kept')
  t.is(tieTo('p60'), 'passing')
  const [first = ''] = hubs
  const without = chooseTopology(viewOf(all, 'p50', [first]), { fullMeshMax: 100 })
  t.deepEqual(without.hubs.slice(0, 2), hubs, 'it is still dialled')
  t.is(without.hubs.length, 3)
})

test('hubs keep each other, and welcome everybody', (t) => {
  const { hubs, tieTo } = chooseTopology(viewOf(mesh(200, 4), 'p1'), { fullMeshMax: 100 })
  t.deepEqual(hubs.toSorted(), ['p0', 'p2', 'p3'])
  t.is(tieTo('p60'), 'welcome')
})

test('the peers of a hub spread over all others when it dies', (t) => {
  const all = mesh(1_000, 5)
  const count = new Map<string, number>()
  for (const { peerId, roles } of all) {
    if (roles.includes('hub')) continue
    const { hubs } = chooseTopology(viewOf(all, peerId, ['p0']))
    for (const hub of hubs) if (hub !== 'p0') count.set(hub, (count.get(hub) ?? 0) + 1)
  }
  for (const peers of count.values()) t.true(peers > 400 && peers < 600, `${peers}`)
})

test('hubs are chosen before they are needed, stay what they are, and are replaced when unwell', (t) => {
  const choose = (count: number, present: readonly string[] = [], unwell: readonly number[] = []) =>
    chooseHubs(
      Array.from({ length: count }, (_, index) => {
        return { peerId: `p${index}`, isWell: !unwell.includes(index) }
      }),
      new Set(present),
      { members: count + 1 },
    )
  t.is(choose(60).size, 0)
  t.is(choose(90).size, 3)
  t.is(choose(1_000).size, 4)
  t.true(choose(90, ['p77']).has('p77'))
  t.false(choose(90, ['p77'], [77]).has('p77'))
  t.is(choose(70, ['p1', 'p2', 'p3']).size, 3, 'a few nodes less are no reason to do without')
  t.is(choose(50, ['p1', 'p2', 'p3']).size, 0)
})

test('whoever is down, nobody is left without a hub that works as long as there is one', (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 8 }),
      fc.uniqueArray(fc.nat(7)),
      fc.integer({ min: 20, max: 40 }),
      (hubs, down, own) => {
        const view = viewOf(
          mesh(50, hubs),
          `p${own}`,
          down.map((index) => `p${index}`),
        )
        const chosen = chooseTopology(view, { fullMeshMax: 10 }).hubs
        const working = chosen.filter((hub) => !view.isDown(hub)).length
        const possible = hubs - down.filter((index) => index < hubs).length
        return working === Math.min(2, possible)
      },
    ),
  )
  t.pass()
})
