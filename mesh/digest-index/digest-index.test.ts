import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import test from 'ava'
import fc from 'fast-check'
import { open } from 'lmdb'
import { HearthError } from '../../core/errors.ts'
import { silentLogger } from '../../core/log.ts'
import {
  type Change,
  type DigestIndex,
  type Entry,
  type Heat,
  hotBit,
  openDigestIndex,
} from './index.ts'
import {
  byKey,
  contentOf,
  describeEntry,
  temporaryIndex,
  testKey,
} from './temporary-index.fixture.ts'

const never = new AbortController().signal
const at = (sequence: number) => ({ epoch: 1, sequence })

async function load(index: DigestIndex, node: string, entries: readonly Entry[], sequence = 0) {
  await using loader = index.loadSnapshot(node)
  await loader.add([...entries].sort(byKey))
  await loader.commit(at(sequence))
}

const held = (number: number, size = 100): Entry => ({ key: testKey(number), size, heat: 'held' })

/** Names of the living holders of one key, a star where it is hot. */
function whoHolds(index: DigestIndex, number: number): string[] {
  const [found] = index.holders([testKey(number)])
  return Array.from(found?.holders ?? [], (tag) => {
    return `${index.nodeOf(tag)}${(tag & hotBit) === 0 ? '' : '*'}`
  }).sort()
}

test.serial('it says who holds what, how large it is and where it is hot', async (t) => {
  const { index } = await temporaryIndex(t)
  await load(index, 'a', [held(1), { ...held(2), heat: 'hot' }])
  await load(index, 'b', [held(2)])
  for (const node of ['a', 'b']) index.markAlive(node)
  t.deepEqual(whoHolds(index, 1), ['a'])
  t.deepEqual(whoHolds(index, 2), ['a*', 'b'])
  t.deepEqual(whoHolds(index, 3), [])
  t.is(index.holders([testKey(1)])[0]?.size, 100)
})

test.serial('the dead are left out and come back as they were', async (t) => {
  const { index } = await temporaryIndex(t)
  await load(index, 'a', [held(1)])
  t.deepEqual(whoHolds(index, 1), [], 'nobody is alive before it was seen')
  index.markAlive('a')
  t.deepEqual(whoHolds(index, 1), ['a'])
  index.markDead('a')
  t.is(index.holders([testKey(1)])[0], undefined)
  index.markAlive('a')
  t.deepEqual(whoHolds(index, 1), ['a'])
})

test.serial('a snapshot takes the place of what was known in one step', async (t) => {
  const { index } = await temporaryIndex(t)
  await load(index, 'a', [held(1), held(2)])
  index.markAlive('a')
  {
    await using loader = index.loadSnapshot('a')
    await loader.add([held(3)])
    t.deepEqual(whoHolds(index, 3), [], 'not before it is whole')
    t.deepEqual(whoHolds(index, 1), ['a'])
  }
  t.deepEqual(whoHolds(index, 3), [], 'one that broke off is never seen')
  await load(index, 'a', [held(2), held(3)], 7)
  t.deepEqual(
    [1, 2, 3].map((number) => whoHolds(index, number).length),
    [0, 1, 1],
  )
  t.deepEqual(index.position('a'), at(7))
})

test.serial('a snapshot out of order is refused', async (t) => {
  const { index } = await temporaryIndex(t)
  const entries = [held(1), held(2)].sort(byKey).reverse()
  await using loader = index.loadSnapshot('a')
  const error = await t.throwsAsync(loader.add(entries), { instanceOf: HearthError })
  t.is(error?.code, 'corrupt')
})

test.serial('the number of a node that left is given again only when no row has it', async (t) => {
  const { index } = await temporaryIndex(t, { scrubAfterMs: 1_000_000 })
  const entries = Array.from({ length: 3_000 }, (_, number) => held(number))
  await load(index, 'a', entries)
  const number = index.numberOf('a')
  index.drop('a')
  await load(index, 'b', [held(1)])
  index.markAlive('b')
  t.not(index.numberOf('b'), number)
  t.deepEqual(whoHolds(index, 2), [])
  t.deepEqual(await index.scrub({ signal: never }), { numbersFreed: 1 })
  await load(index, 'c', [held(5)])
  index.markAlive('c')
  t.is(index.numberOf('c'), number)
  t.deepEqual(contentOf(index, 'c'), [describeEntry(held(5))])
  t.deepEqual(contentOf(index, 'b'), [describeEntry(held(1))])
})

test.serial('what was known and how far outlives a restart', async (t) => {
  const first = await temporaryIndex(t)
  await load(first.index, 'a', [held(1), held(2)])
  await first.index.apply('a', at(4), [{ type: 'lost', key: testKey(1) }])
  const unfinished = first.index.loadSnapshot('b')
  await unfinished.add([held(9)])
  await first.close()
  const { index } = await temporaryIndex(t, { folder: first.folder })
  t.deepEqual(contentOf(index, 'a'), [describeEntry(held(2))])
  t.deepEqual(index.position('a'), at(4))
  t.deepEqual(await index.scrub({ signal: never }), { numbersFreed: 1 })
})

test.serial('after another boot of the machine it starts empty rather than torn', async (t) => {
  const first = await temporaryIndex(t)
  await load(first.index, 'a', [held(1)])
  await first.close()
  await writeFile(path.join(first.folder, 'boot'), 'another boot')
  const { index } = await temporaryIndex(t, { folder: first.folder })
  t.deepEqual(index.nodes(), [])
})

test.serial('an index of a newer Hearth is refused', async (t) => {
  const { folder, close } = await temporaryIndex(t)
  await close()
  const root = open(path.join(folder, 'data'), { maxDbs: 8, overlappingSync: false })
  root.openDB('meta', { encoding: 'msgpack' }).putSync('version', 99)
  await root.close()
  const error = await t.throwsAsync(openDigestIndex({ folder, log: silentLogger }), {
    instanceOf: HearthError,
  })
  t.is(error?.code, 'version')
})

const heat = fc.constantFrom<Heat>('hot', 'held')
const entry = fc.record({
  number: fc.integer({ min: 0, max: 40 }),
  size: fc.constantFrom(7, 9),
  heat,
})
const node = fc.integer({ min: 0, max: 150 }).map((number) => `n${number}`)
const command = fc.oneof(
  { weight: 6, arbitrary: fc.record({ type: fc.constant('gain' as const), node, entry }) },
  {
    weight: 3,
    arbitrary: fc.record({
      type: fc.constant('lose' as const),
      node,
      number: fc.integer({ min: 0, max: 40 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      type: fc.constant('snapshot' as const),
      node,
      entries: fc.array(entry, { maxLength: 30 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('drop' as const), node }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant('scrub' as const) }) },
)

test.serial(
  'after any history it knows of each node what that node has, whether few hold a key or many',
  async (t) => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(command, { minLength: 20, maxLength: 400 }),
        fc.boolean(),
        async (commands, crowded) => {
          const { index, close } = await temporaryIndex(t, { scrubAfterMs: 1_000_000 })
          /** By node and number of the key. */
          const model = new Map<string, Map<number, Heat>>()
          const sequences = new Map<string, number>()
          if (crowded) {
            // Rows become bitsets, and some stay lists at the edge.
            for (let count = 0; count < 70; count += 1) {
              const keys = Array.from({ length: 40 }, (_, number) => number).filter(
                (number) => count < 55 + number,
              )
              await load(
                index,
                `n${count}`,
                keys.map((number) => held(number, 7)),
              )
              model.set(`n${count}`, new Map(keys.map((number) => [number, 'held'])))
            }
          }
          for (const one of commands) {
            if (one.type === 'scrub') {
              await index.scrub({ signal: never })
              continue
            }
            if (one.type === 'drop') {
              index.drop(one.node)
              model.delete(one.node)
              continue
            }
            if (one.type === 'snapshot') {
              const content = new Map(one.entries.map(({ number, heat }) => [number, heat]))
              await load(
                index,
                one.node,
                Array.from(content, ([number, heat]) => ({ ...held(number, 7), heat })),
              )
              model.set(one.node, content)
              continue
            }
            if (!model.has(one.node)) {
              await load(index, one.node, [])
              model.set(one.node, new Map())
            }
            const sequence = (sequences.get(one.node) ?? 0) + 1
            sequences.set(one.node, sequence)
            const change: Change =
              one.type === 'lose'
                ? { type: 'lost', key: testKey(one.number) }
                : { type: 'gained', entry: { ...held(one.entry.number, 7), heat: one.entry.heat } }
            await index.apply(one.node, at(sequence), [change])
            if (one.type === 'lose') model.get(one.node)?.delete(one.number)
            else model.get(one.node)?.set(one.entry.number, one.entry.heat)
          }
          for (const [name, content] of model) {
            const expected = Array.from(content, ([number, heat]) => ({ ...held(number, 7), heat }))
            const got = contentOf(index, name)
            const wanted = expected.sort(byKey).map(describeEntry)
            if (got.join() !== wanted.join()) throw new Error(`${name} has ${got}, not ${wanted}`)
            index.markAlive(name)
          }
          for (let number = 0; number <= 40; number += 1) {
            const wanted = [...model]
              .filter(([, content]) => content.has(number))
              .map(([name, content]) => (content.get(number) === 'hot' ? `${name}*` : name))
              .sort()
            const got = whoHolds(index, number)
            if (got.join() !== wanted.join()) throw new Error(`${number}: ${got}, not ${wanted}`)
          }
          await close()
        },
      ),
      { numRuns: 25, interruptAfterTimeLimit: 60_000 },
    )
    t.pass()
  },
)

test.serial(
  'a route over a crowded index takes milliseconds, and loading it leaves the event loop free',
  async (t) => {
    const { index } = await temporaryIndex(t)
    const nodes = Array.from({ length: 300 }, (_, number) => `n${number}`)
    const keys = 50_000
    const rows = Array.from({ length: keys }, (_, number) => {
      const holders = nodes.flatMap((_, node) =>
        (node * 7 + number) % (1 + (number % 97)) === 0 ? [node] : [],
      )
      return { key: testKey(number), size: 1, holders }
    })
    index.importRows(nodes, rows.sort(byKey))
    for (const name of nodes) index.markAlive(name)
    const asked = (start: number) =>
      Array.from({ length: 560 }, (_, each) => testKey((start + each * 89) % keys))
    const timesMs: number[] = []
    for (let route = 0; route < 200; route += 1) {
      const query = asked(route * 211)
      const startedAt = performance.now()
      index.holders(query)
      timesMs.push(performance.now() - startedAt)
    }
    timesMs.sort((a, b) => a - b)
    t.log(`route p50 ${timesMs[100]?.toFixed(2)} ms, p99 ${timesMs[198]?.toFixed(2)} ms`)
    t.true((timesMs[100] ?? Number.POSITIVE_INFINITY) < 20)

    const delay = monitorEventLoopDelay({ resolution: 5 })
    delay.enable()
    await load(
      index,
      'newcomer',
      Array.from({ length: 30_000 }, (_, number) => held(number)),
    )
    delay.disable()
    t.log(`event loop late by ${(delay.percentile(99) / 1e6).toFixed(0)} ms at p99 while loading`)
    t.true(delay.percentile(50) / 1e6 < 100)
  },
)
