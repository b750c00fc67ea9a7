import test from 'ava'
import fc from 'fast-check'
import { type Digest, digestOf } from '../../../core/digest.ts'
import { configs, descriptors, textOf } from './generated-records.fixture.ts'
import { emptyGraph, type Graph, hasResult } from './graph.ts'
import { mergeGraphs, relabelled } from './merge.ts'
import { parseConfig } from './record.ts'
import { createScopeRecord, fragmentsMax, type KeptFragment } from './scope-record.ts'
import { finish } from './steps.ts'
import { createUnion } from './union.ts'

const graphsOfFragments = configs.map((config) => parseConfig(config, descriptors, 0))
const lineages = ['a', 'b', 'c', 'd', 'e'].map((name) => digestOf(name))

/** What has happened to a union: each lineage stands for one fragment, with labels that only grow. */
const changes = fc.array(
  fc.record({ which: fc.nat(lineages.length - 1), isRemoval: fc.boolean() }),
  { maxLength: 12 },
)

test('a union that is changed piece by piece says what the pieces that are left say together', (t) => {
  const fragments = fc.tuple(...lineages.map(() => graphsOfFragments))
  fc.assert(
    fc.property(fragments, changes, (graphs, history) => {
      const union = createUnion({ recordsPerStep: 1 })
      const left = new Map<Digest, Graph>()
      for (const [at, { which, isRemoval }] of history.entries()) {
        const lineage = lineages[which] ?? digestOf('')
        const graph = graphs[which] ?? emptyGraph
        const sequence = at + 1
        const steps = isRemoval ? union.remove(lineage) : union.add(lineage, graph, sequence)
        for (const _ of steps) t.true(isClosed(union.graph), 'also in between')
        if (isRemoval) left.delete(lineage)
        else left.set(lineage, relabelled(graph, { sequence, lineage }))
      }
      t.is(textOf(union.graph), textOf(mergeGraphs(...left.values())))
    }),
  )
})

function isClosed({ records, descriptors: layers }: Graph): boolean {
  return [...records.values()].every(
    ({ inputs, results }) =>
      inputs.flat().every(({ record }) => records.has(record)) &&
      [...results.values()].every(({ chain }) => layers.has(chain.blob)),
  )
}

const fragments: fc.Arbitrary<KeptFragment[]> = fc.array(
  fc
    .tuple(graphsOfFragments, fc.integer({ min: 1, max: 3 }), fc.boolean(), fc.nat(9))
    .map(([graph, sequence, isKept, name]) => ({
      digest: digestOf(`fragment ${name}`),
      graph,
      sequence,
      isKept,
    })),
  { maxLength: 7 },
)

/** Of a digest there is one content, as digests go; its labels may differ. */
const consistent = fragments.map((all) => {
  const graphs = new Map(all.map(({ digest, graph }) => [digest, graph]))
  return all.map((each) => ({ ...each, graph: graphs.get(each.digest) ?? each.graph }))
})

test('nodes that hear the same fragments in any order keep the same ones, and say the same', (t) => {
  fc.assert(
    fc.property(consistent, fc.array(fc.nat(100), { maxLength: 7 }), (all, order) => {
      // Each label as it came last: what was said of a fragment before makes nothing superfluous afterwards.
      const last = new Map<Digest, KeptFragment>()
      for (const each of all) {
        const before = last.get(each.digest)
        if (before === undefined || rank(each) > rank(before)) last.set(each.digest, each)
      }
      const one = createScopeRecord()
      for (const each of last.values()) finish(one.add(each))
      const other = createScopeRecord()
      const elsewhere = [...last.values()]
        .map((each, at) => ({ each, weight: order[at] ?? at }))
        .sort((a, b) => a.weight - b.weight)
      for (const { each } of elsewhere) finish(other.add(each))
      t.deepEqual([...one.fragments.keys()].sort(), [...other.fragments.keys()].sort())
      t.is(textOf(one.union), textOf(other.union))
      t.is(one.latest, other.latest)
    }),
  )
})

const rank = ({ sequence, isKept }: KeptFragment): number => sequence * 2 + (isKept ? 1 : 0)

test('nothing is given up but what later fragments, which are kept, can do as well', (t) => {
  fc.assert(
    fc.property(consistent, (all) => {
      const record = createScopeRecord()
      const gone = new Map<Digest, KeptFragment>()
      for (const each of all) {
        const known = record.fragments.get(each.digest)
        for (const digest of finish(record.add(each))) {
          gone.set(
            digest,
            digest === each.digest ? each : (all.find((it) => it.digest === digest) ?? each),
          )
        }
        if (known === undefined) t.true(gone.has(each.digest) || record.fragments.has(each.digest))
      }
      for (const { graph } of gone.values()) {
        for (const { key } of [...graph.records.values()].filter(hasResult)) {
          const heirs = [...record.fragments.values()].filter((heir) => {
            const had = heir.graph.records.get(key)
            return heir.isKept && had !== undefined && hasResult(had)
          })
          t.true(heirs.length > 0)
        }
      }
    }),
    { numRuns: 1000 },
  )
})

function chain(name: string, steps: number): Graph {
  const blobs = Array.from({ length: steps }, (_, step) => digestOf(`${name} ${step}`))
  return parseConfig(
    {
      layers: blobs.map((blob, step) => ({ blob, parent: step - 1 })),
      records: blobs.map((blob, step) => ({
        digest: digestOf(`step of ${blob}`),
        layers: [{ layer: step }],
        ...(step === 0 ? {} : { inputs: [[{ link: step - 1 }]] }),
      })),
    },
    new Map(blobs.map((digest) => [digest, { mediaType: 'layer', digest, size: 1_000 }])),
    0,
  )
}

test.serial('with the most fragments there can be, no step of the work takes long', (t) => {
  const record = createScopeRecord()
  const common = chain('common', 60)
  const slices: number[] = []
  const run = <T>(steps: Generator<undefined, T, undefined>): T => {
    for (;;) {
      const startedAtMs = performance.now()
      const { done, value } = steps.next()
      slices.push(performance.now() - startedAtMs)
      if (done === true) return value
    }
  }
  for (let build = 0; build < fragmentsMax; build += 1) {
    const graph = mergeGraphs(common, chain(`own ${build}`, 30))
    run(
      record.add({ digest: digestOf(`build ${build}`), graph, sequence: build + 1, isKept: true }),
    )
  }
  const served = run(record.refresh(({ digest }) => (digest.endsWith('0') ? 'near' : 'held')))
  t.true(served.records > 2_000)
  slices.sort((a, b) => a - b)
  const most = (share: number): number => slices[Math.floor((slices.length - 1) * share)] ?? 0
  t.log(
    `p50 ${most(0.5).toFixed(2)} ms, p99 ${most(0.99).toFixed(2)} ms, most ${most(1).toFixed(1)} ms`,
  )
  // A busy machine takes one of them away for long, but not one in a hundred.
  t.true(most(0.99) < 25)
})

test('what a plan names comes first when a scope has more than BuildKit reads', (t) => {
  const record = createScopeRecord()
  const stepKey = digestOf('the last step of an old build')
  for (let build = 0; build < 40; build += 1) {
    const graph = chain(`own ${build}`, 150)
    const last = [...graph.records.values()].find(({ depth }) => depth === 149)
    const steps = new Map(build === 3 && last !== undefined ? [[stepKey, last.key]] : [])
    const digest = digestOf(`build ${build}`)
    finish(record.add({ digest, graph: { ...graph, steps }, sequence: build + 1, isKept: true }))
  }
  const old = [...(record.fragments.get(digestOf('build 3'))?.graph.descriptors.keys() ?? [])]
  const served = finish(record.refresh(() => 'held'))
  t.false(served.isWhole)
  t.false(old.some((blob) => served.blobs.includes(blob)))
  const plan = new Set([stepKey, digestOf('a step that nobody knows')])
  t.is(record.narrowed(plan), undefined)
  const narrowed = finish(record.narrow(plan))
  t.true(old.every((blob) => narrowed.blobs.includes(blob)))
  t.is(record.narrowed(new Set([...plan].reverse())), narrowed)
  finish(record.refresh(() => 'held'))
  t.is(record.narrowed(plan), undefined, 'what it was made from is not so any more')
})
