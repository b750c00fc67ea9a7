import test from 'ava'
import { makeHistory } from './history.ts'
import { hearth, leastLoaded, randomNode, stickyHash } from './policies.ts'
import { seededRandom } from './seeded-random.ts'
import { simulate, type World } from './simulate.ts'

const world: World = { nodes: 4, slots: 1, peerBytesPerMs: 100_000, noise: 0.3 }
const options = { builds: 60, projects: 4, buildsPerS: 0.05, skew: 1 }
const history = () => makeHistory(seededRandom(7), options)
const total = (waits: readonly number[]) => waits.reduce((sum, wait) => sum + wait, 0)

test('the same seed gives the same history and the same end', (t) => {
  t.deepEqual(history(), history())
  const play = () => simulate(history(), hearth, world, seededRandom(1))
  t.deepEqual(play(), play())
})

test('every build ends, and none before it came', (t) => {
  for (const policy of [hearth, randomNode(seededRandom(1)), stickyHash, leastLoaded]) {
    const waits = simulate(history(), policy, world, seededRandom(1))
    t.is(waits.filter((wait) => wait >= 0).length, 60)
  }
})

test('more nodes, shorter waits', (t) => {
  const waitsOn = (nodes: number) =>
    total(simulate(history(), hearth, { ...world, nodes }, seededRandom(1)))
  t.true(waitsOn(8) < waitsOn(2))
})

test('what was built is not built again: an unchanged build after its first is over at once', (t) => {
  const [first] = history()
  if (first === undefined) return t.fail()
  const again = { ...first, arrivesAtMs: first.arrivesAtMs + 3_600_000 }
  const [cold = 0, warm] = simulate([first, again], hearth, world, seededRandom(1))
  t.true(cold > 1_000)
  t.is(warm, 0)
})
