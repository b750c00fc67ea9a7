import test from 'ava'
import fc from 'fast-check'
import type { DigestIndex, Heat } from './index.ts'
import { hotBit } from './index.ts'
import { temporaryIndex, testKey } from './temporary-index.fixture.ts'

/** Rows of both forms: few holders and more than a list takes. */
const importedRows = fc.array(
  fc.oneof(
    { weight: 3, arbitrary: fc.uniqueArray(fc.nat(199), { minLength: 1, maxLength: 8 }) },
    { weight: 2, arbitrary: fc.uniqueArray(fc.nat(199), { minLength: 62, maxLength: 200 }) },
  ),
  { minLength: 1, maxLength: 20 },
)

const names = Array.from({ length: 200 }, (_, index) => `n${index}`)

/** What `holders` says of one key and node. */
function heatByHolders(index: DigestIndex, key: Uint8Array, number: number): Heat | undefined {
  const [found] = index.holders([key])
  const tag = found?.holders.find((other) => (other & (hotBit - 1)) === number)
  return tag === undefined ? undefined : (tag & hotBit) === 0 ? 'held' : 'hot'
}

test.serial('a survey says of every key and node what the holders say', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      importedRows,
      fc.uniqueArray(fc.nat(199), { maxLength: 60 }),
      async (lists, dead) => {
        const { index, close } = await temporaryIndex(t)
        const rows = lists
          .map((nodes, row) => ({
            key: testKey(row),
            size: row,
            holders: nodes
              .toSorted((a, b) => a - b)
              .map((node) => ((node + row) % 3 === 0 ? node | hotBit : node)),
          }))
          .toSorted((a, b) => Buffer.compare(a.key, b.key))
        index.importRows(names, rows)
        for (const name of names) index.markAlive(name)
        for (const node of dead) index.markDead(names[node] ?? '')

        const keys = [testKey(10_000), ...lists.map((_, row) => testKey(row)), testKey(0)]
        const survey = index.survey(keys)
        const sums = survey.tally(
          keys.map((_, place) => place + 1),
          keys.map((_, place) => 100 * (place + 1)),
        )
        const wanted = new Float64Array(sums.length)
        for (const [place, key] of keys.entries()) {
          const holders = index.holders([key])[0]
          if (survey.isHeld(place) !== (holders !== undefined)) throw new Error('isHeld')
          if (holders !== undefined && survey.size(place) !== holders.size) throw new Error('size')
          for (let number = 0; number < names.length; number += 1) {
            const heat = heatByHolders(index, key, number)
            if (survey.heat(place, number) !== heat) throw new Error(`heat of ${number}`)
            const weight = heat === undefined ? 0 : heat === 'hot' ? 100 : 1
            wanted[number] = (wanted[number] ?? 0) + weight * (place + 1)
          }
        }
        t.deepEqual(sums, wanted)
        await close()
      },
    ),
    { numRuns: 12 },
  )
})

test.serial('a survey is lent until the next one', async (t) => {
  const { index } = await temporaryIndex(t)
  index.importRows(['a'], [{ key: testKey(1), size: 5, holders: [0] }])
  index.markAlive('a')
  const first = index.survey([testKey(1)])
  t.is(first.heat(0, 0), 'held')
  const second = index.survey([])
  t.throws(() => first.heat(0, 0))
  t.throws(() => second.heat(0, 0), { instanceOf: RangeError })
})

test.serial('an empty index has an empty survey', async (t) => {
  const { index } = await temporaryIndex(t)
  const survey = index.survey([testKey(1)])
  t.false(survey.isHeld(0))
  t.is(survey.heat(0, 7), undefined)
  t.deepEqual([...survey.tally([1], [1])], [])
})
