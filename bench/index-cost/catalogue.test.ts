import test from 'ava'
import { compareKeys, hotBit } from '../../mesh/index.ts'
import { seededRandom } from '../routing/seeded-random.ts'
import { createCatalogue } from './catalogue.ts'

const options = { nodes: 40, digestsPerNode: 500, pool: 10_000 }
const textOf = (key: Uint8Array): string => Buffer.from(key).toString('hex')

test('every node holds as many digests as it should, few of them alone and some with all others', (t) => {
  const { rows } = createCatalogue(options)
  const held = new Map<number, number>()
  const byHolders = new Map<number, number>()
  let before: Uint8Array | undefined
  for (const { key, holders } of rows()) {
    if (before !== undefined) t.is(compareKeys(before, key), -1)
    before = Buffer.from(key)
    const nodes = Array.from(holders, (tag) => tag & (hotBit - 1))
    t.deepEqual(
      nodes,
      [...new Set(nodes)].sort((a, b) => a - b),
    )
    for (const node of nodes) held.set(node, (held.get(node) ?? 0) + 1)
    byHolders.set(nodes.length, (byHolders.get(nodes.length) ?? 0) + 1)
  }
  const counts = [...held.values()]
  t.is(counts.length, options.nodes)
  t.true(Math.abs(Math.min(...counts) - options.digestsPerNode) <= 2, counts.join())
  t.true(Math.abs(Math.max(...counts) - options.digestsPerNode) <= 2, counts.join())
  t.true((byHolders.get(options.nodes) ?? 0) > 10)
  t.true((byHolders.get(1) ?? 0) > 1_000)
})

test('what is drawn as held is held by somebody, and what is drawn as unknown by nobody', (t) => {
  const catalogue = createCatalogue(options)
  const known = new Set(Array.from(catalogue.rows(), ({ key }) => textOf(key)))
  const random = seededRandom(5)
  for (let count = 0; count < 500; count += 1) {
    t.true(known.has(textOf(catalogue.drawHeld(random))))
    t.false(known.has(textOf(catalogue.drawUnknown(random))))
  }
})
