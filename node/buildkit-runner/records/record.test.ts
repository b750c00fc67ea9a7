import test from 'ava'
import fc from 'fast-check'
import { type Digest, digestOf } from '../../../core/digest.ts'
import { HearthError } from '../../../core/errors.ts'
import { readFragment, writeFragment } from './fragment.ts'
import { configs, descriptors, graphs, shuffled, textOf } from './generated-records.fixture.ts'
import { blobsOf, type Descriptor, type Graph } from './graph.ts'
import { parseCacheManifest, parseJson, writeCacheManifest } from './manifest.ts'
import { configShape, parseConfig } from './record.ts'

const layer = (name: string): Descriptor => ({
  mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
  digest: digestOf(name),
  size: name.length,
})
const a = layer('a')
const b = layer('b')
const c = layer('c')
const all = new Map([a, b, c].map((each) => [each.digest, each]))

function parse(config: unknown, had: ReadonlyMap<Digest, Descriptor> = all): Graph {
  return parseConfig(
    parseJson(Buffer.from(JSON.stringify(config)), configShape, 'a record'),
    had,
    1,
  )
}

/** The chains of a record's results, each as the names of its layers. */
function chainsOf(graph: Graph, digest: string): string[] {
  const names = new Map([a, b, c].map((each, position) => [each.digest, 'abc'[position]]))
  const record = [...graph.records.values()].find((each) => each.digest === digest)
  const results = [...(record?.results.values() ?? [])]
  return results
    .map(({ chain }) =>
      blobsOf(chain)
        .map((blob) => names.get(blob))
        .join(''),
    )
    .sort()
}

test('a parent that is left out is the first layer', (t) => {
  const graph = parse({
    layers: [{ blob: a.digest, parent: -1 }, { blob: b.digest }],
    records: [{ digest: 'x', layers: [{ layer: 1 }] }],
  })
  t.deepEqual(chainsOf(graph, 'x'), ['ab'])
})

test('layers, records and their links may stand in any order', (t) => {
  const graph = parse({
    layers: [
      { blob: c.digest, parent: 1 },
      { blob: b.digest, parent: 2 },
      { blob: a.digest, parent: -1 },
    ],
    records: [
      { digest: 'y', inputs: [[{ link: 1 }]], layers: [{ layer: 0 }] },
      { digest: 'x', layers: [{ layer: 2 }] },
    ],
  })
  t.deepEqual(chainsOf(graph, 'x'), ['a'])
  t.deepEqual(chainsOf(graph, 'y'), ['abc'])
})

test('a result may list its layers, and a record may have several results', (t) => {
  const graph = parse({
    layers: [
      { blob: a.digest, parent: -1 },
      { blob: b.digest, parent: -1 },
    ],
    records: [
      { digest: 'x', layers: [{ layer: 0 }], chains: [{ layers: [1, 0] }, { layers: [] }] },
    ],
  })
  t.deepEqual(chainsOf(graph, 'x'), ['a', 'ba'])
})

test('a result counts only with all of its layers', (t) => {
  const config = {
    layers: [{ blob: a.digest, parent: -1 }, { blob: b.digest }, { blob: c.digest, parent: 1 }],
    records: [
      { digest: 'x', layers: [{ layer: 0 }] },
      { digest: 'y', layers: [{ layer: 2 }], chains: [{ layers: [0, 1] }] },
    ],
  }
  const graph = parse(config, new Map([a, c].map((each) => [each.digest, each])))
  t.deepEqual(chainsOf(graph, 'x'), ['a'])
  t.deepEqual(chainsOf(graph, 'y'), [])
  t.deepEqual([...graph.descriptors.keys()], [a.digest])
})

test('records with the same step and the same inputs are one', (t) => {
  const graph = parse({
    layers: [
      { blob: a.digest, parent: -1 },
      { blob: b.digest, parent: -1 },
    ],
    records: [
      { digest: 'x' },
      { digest: 'y', inputs: [[{ link: 0 }, { link: 0, selector: 's' }]], layers: [{ layer: 0 }] },
      { digest: 'y', inputs: [[{ link: 0, selector: 's' }, { link: 0 }]], layers: [{ layer: 1 }] },
      { digest: 'z', inputs: [[{ link: 1 }]] },
      { digest: 'z', inputs: [[{ link: 2 }]] },
    ],
  })
  t.is(graph.records.size, 3)
  t.deepEqual(chainsOf(graph, 'y'), ['a', 'b'])
})

test('a very long chain of steps and layers is read', (t) => {
  const count = 50_000
  const graph = parse({
    layers: [
      { blob: a.digest, parent: -1 },
      ...Array.from({ length: 5000 }, (_, parent) => ({ blob: b.digest, parent })),
    ],
    records: Array.from({ length: count }, (_, position) => ({
      digest: `step ${position}`,
      ...(position === count - 1
        ? { layers: [{ layer: 5000 }] }
        : { inputs: [[{ link: position + 1 }]] }),
    })),
  })
  t.is(graph.records.size, count)
})

for (const [what, config] of Object.entries({
  'an input without alternatives': { records: [{ digest: 'x', inputs: [[]] }] },
  'an input that is null': { records: [{ digest: 'x', inputs: [null] }] },
  'a loop of records': {
    records: [
      { digest: 'x', inputs: [[{ link: 1 }]] },
      { digest: 'y', inputs: [[{ link: 0 }]] },
    ],
  },
  'a record that is its own input': { records: [{ digest: 'x', inputs: [[{}]] }] },
  'a link out of range': { records: [{ digest: 'x', inputs: [[{ link: 1 }]] }] },
  'a negative link': { records: [{ digest: 'x', inputs: [[{ link: -1 }]] }] },
  'a result without a layer': { records: [{ digest: 'x', layers: [{ layer: 0 }] }] },
  'a result with layer -1': { records: [{ digest: 'x', layers: [{ layer: -1 }] }] },
  'a chain out of range': { records: [{ digest: 'x', chains: [{ layers: [7] }] }] },
  'a layer that is its own parent': {
    layers: [{ blob: a.digest }],
    records: [{ digest: 'x', layers: [{ layer: 0 }] }],
  },
  'a parent out of range': {
    layers: [{ blob: a.digest, parent: 9 }],
    records: [{ digest: 'x', layers: [{ layer: 0 }] }],
  },
  'a random digest': { records: [{ digest: 'random:x' }] },
  'a blob that is no digest': { layers: [{ blob: 'x' }] },
  'a text for a number': { records: [{ digest: 'x', layers: [{ layer: '0' }] }] },
})) {
  test(`${what} is refused`, (t) => {
    const error = t.throws(() => parse(config), { instanceOf: HearthError })
    t.is(error?.code, 'invalid-input')
  })
}

test('an empty config is an empty graph', (t) => {
  for (const config of [{}, { layers: null, records: null }, { layers: [], records: [] }]) {
    t.is(parse(config).records.size, 0)
  }
})

test('a fragment says the same as the graph that it was made from', (t) => {
  fc.assert(
    fc.property(configs, (config) => {
      const { bytes, digest } = writeFragment(parseConfig(config, descriptors, 3))
      const read = readFragment(bytes, 3)
      // What can never be a hit is not part of it; writing it again changes nothing.
      t.is(writeFragment(read).digest, digest)
      const whole = parseConfig(config, descriptors, 3)
      const same = new Map(
        [...read.records].flatMap(([key]) => {
          const record = whole.records.get(key)
          return record ? [[key, record]] : []
        }),
      )
      t.is(textOf(read), textOf({ ...whole, records: same }))
      for (const record of whole.records.values()) {
        if (record.results.size > 0) t.true(read.records.has(record.key))
      }
    }),
  )
})

test('order and times make no new fragment', (t) => {
  fc.assert(
    fc.property(configs, fc.array(fc.nat(100), { minLength: 1 }), (config, order) => {
      const other = shuffled(config, order)
      for (const record of other.records ?? []) {
        for (const result of record.layers ?? []) result.createdAt = '2001-01-01T00:00:00Z'
      }
      t.is(
        writeFragment(parseConfig(other, descriptors, 1)).digest,
        writeFragment(parseConfig(config, descriptors, 9)).digest,
      )
    }),
  )
})

test('a fragment of a newer Hearth is refused', (t) => {
  const { bytes } = writeFragment(parse({}))
  const newer = Buffer.from(bytes.toString().replace('"version":1', '"version":2'))
  t.like(
    t.throws(() => readFragment(newer, 1)),
    { code: 'version' },
  )
})

test('reading is free of surprises: what is refused is refused with our own error', (t) => {
  const anything = fc.letrec((tie) => ({
    config: fc.record(
      {
        layers: fc.array(
          fc.record(
            { blob: fc.constantFrom(a.digest, b.digest), parent: fc.integer({ min: -2, max: 3 }) },
            { requiredKeys: ['blob'] },
          ),
        ),
        records: fc.array(tie('record')),
      },
      { requiredKeys: [] },
    ),
    record: fc.record(
      {
        digest: fc.constantFrom('x', 'y'),
        layers: fc.array(fc.record({ layer: fc.integer({ min: -1, max: 3 }) })),
        inputs: fc.array(fc.array(fc.record({ link: fc.integer({ min: -1, max: 3 }) }))),
      },
      { requiredKeys: ['digest'] },
    ),
  })).config
  fc.assert(
    fc.property(anything, (config) => {
      try {
        parse(config)
      } catch (error) {
        t.true(error instanceof HearthError, String(error))
      }
    }),
  )
  t.pass()
})

const config: Descriptor = {
  mediaType: 'application/vnd.buildkit.cacheconfig.v0',
  digest: digestOf('config'),
  size: 6,
}

test('both forms of the manifest are read', (t) => {
  const image = Buffer.from(JSON.stringify({ schemaVersion: 2, config, layers: [a, b] }))
  const index = Buffer.from(JSON.stringify({ schemaVersion: 2, manifests: [a, b, config] }))
  t.deepEqual(parseCacheManifest(image), { config, layers: [a, b] })
  t.deepEqual(parseCacheManifest(index), { config, layers: [a, b] })
})

test('what is no cache manifest is refused', (t) => {
  for (const manifest of [
    'no json',
    '[]',
    '{}',
    JSON.stringify({ config: a, layers: [] }),
    JSON.stringify({ manifests: [a] }),
    JSON.stringify({ config, manifests: [config] }),
    JSON.stringify({ config: { ...config, digest: 'x' } }),
  ]) {
    const error = t.throws(() => parseCacheManifest(Buffer.from(manifest)))
    t.like(error, { code: 'invalid-input' })
  }
})

test('annotations of layers are kept; where a build found them, and other sources of their bytes, are not', (t) => {
  const annotations = {
    'containerd.io/uncompressed': 'sha256:1',
    'containerd.io/snapshot/stargz/toc.digest': 'sha256:2',
  }
  const layers = [
    {
      ...a,
      urls: ['http://elsewhere/'],
      annotations: {
        ...annotations,
        'containerd.io/distribution.source.ref': 'hearth.cache/secret/cache:record',
      },
    },
  ]
  const read = parseCacheManifest(Buffer.from(JSON.stringify({ config, layers })))
  t.deepEqual(read.layers, [
    {
      ...a,
      annotations: {
        'containerd.io/snapshot/stargz/toc.digest': 'sha256:2',
        'containerd.io/uncompressed': 'sha256:1',
      },
    },
  ])
  t.deepEqual(parseCacheManifest(writeCacheManifest(read).bytes), read)
})

test('a graph holds every record that it names', (t) => {
  fc.assert(
    fc.property(graphs, (graph) => {
      for (const record of graph.records.values()) {
        for (const { record: input } of record.inputs.flat()) {
          const found = graph.records.get(input)
          t.true(found !== undefined && found.depth < record.depth)
        }
      }
      t.true(textOf(graph).length > 0)
    }),
  )
})
