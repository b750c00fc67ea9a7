import test from 'ava'
import fc from 'fast-check'
import { type Digest, digestOf } from '../../../core/digest.ts'
import {
  allBlobs,
  descriptorOf,
  graphs,
  heldBlobs,
  labelOf,
  textOf,
  unions,
} from './generated-records.fixture.ts'
import { blobsOf, emptyGraph, type Graph } from './graph.ts'
import { parseCacheManifest, parseJson } from './manifest.ts'
import { mergeGraphs, relabelled } from './merge.ts'
import { configShape, parseConfig } from './record.ts'
import { makeServedRecord, type ServedRecord } from './serve-record.ts'

test('a union does not depend on the order of its parts', (t) => {
  fc.assert(
    fc.property(graphs, graphs, (a, b) => {
      t.is(textOf(mergeGraphs(a, b)), textOf(mergeGraphs(b, a)))
    }),
  )
})

test('a union does not depend on how its parts are grouped', (t) => {
  fc.assert(
    fc.property(graphs, graphs, graphs, (a, b, c) => {
      const whole = textOf(mergeGraphs(a, b, c))
      t.is(textOf(mergeGraphs(mergeGraphs(a, b), c)), whole)
      t.is(textOf(mergeGraphs(a, mergeGraphs(b, c))), whole)
    }),
  )
})

test('a union with itself, or with nothing, is what it was', (t) => {
  fc.assert(
    fc.property(graphs, (a) => {
      t.is(textOf(mergeGraphs(a, a)), textOf(a))
      t.is(textOf(mergeGraphs(a)), textOf(a))
      t.is(textOf(mergeGraphs(a, emptyGraph)), textOf(a))
      t.is(textOf(mergeGraphs(emptyGraph, a)), textOf(a))
    }),
  )
})

/** Reads a served record as BuildKit would. */
function readServed(served: ServedRecord) {
  const [manifest, config] = served.documents
  if (manifest === undefined || config === undefined) throw new Error('two documents are served')
  const { config: descriptor, layers } = parseCacheManifest(manifest.bytes)
  const text = JSON.parse(Buffer.from(config.bytes).toString()) as {
    records: { layers?: { createdAt: string }[] }[]
  }
  return {
    manifest,
    config,
    descriptor,
    layers,
    times: text.records.flatMap((each) => each.layers ?? []).map(({ createdAt }) => createdAt),
    graph: parseConfig(
      parseJson(config.bytes, configShape, 'a record'),
      new Map(layers.map((each) => [each.digest, each])),
      0,
    ),
  }
}

test('a served record holds one whole result for each step that has one, and no more', (t) => {
  fc.assert(
    fc.property(unions, heldBlobs, (union, held) => {
      const served = makeServedRecord(union, held)
      const { graph, layers } = readServed(served)
      for (const [key, record] of graph.records) {
        const known = union.records.get(key)
        t.true(known !== undefined)
        t.true(record.results.size <= 1)
        for (const [chain] of record.results) t.true(known?.results.has(chain))
      }
      for (const { digest } of layers) t.true(held.has(digest))
      t.deepEqual([...served.blobs].sort(), layers.map(({ digest }) => digest).sort())
      // Nothing that could have been served is missing.
      for (const record of union.records.values()) {
        const deliverable = [...record.results.values()].some(({ chain }) =>
          blobsOf(chain).every((blob) => held.has(blob)),
        )
        t.is(graph.records.get(record.key)?.results.size === 1, deliverable)
      }
    }),
  )
})

test('of several results, the one seen last is served, and then the smallest', (t) => {
  fc.assert(
    fc.property(unions, heldBlobs, (union, held) => {
      const { graph } = readServed(makeServedRecord(union, held))
      const bytesOf = (blobs: Digest[]) =>
        blobs.reduce((sum, blob) => sum + (held.get(blob)?.size ?? 0), 0)
      for (const record of graph.records.values()) {
        const [served] = record.results.keys()
        const known = [...(union.records.get(record.key)?.results.values() ?? [])]
        const whole = known.filter(({ chain }) => blobsOf(chain).every((blob) => held.has(blob)))
        const chosen = whole.find(({ chain }) => chain.key === served)
        if (chosen === undefined) continue
        for (const other of whole) {
          t.true(other.sequence <= chosen.sequence)
          if (other.sequence === chosen.sequence) {
            t.true(bytesOf(blobsOf(chosen.chain)) <= bytesOf(blobsOf(other.chain)))
          }
        }
      }
    }),
  )
})

test('every result claims another second of 1970, so that what a daemon made itself wins', (t) => {
  fc.assert(
    fc.property(unions, (union) => {
      const { times } = readServed(makeServedRecord(union, allBlobs))
      t.is(new Set(times).size, times.length)
      for (const time of times) t.regex(time, /^1970-01-01T\d\d:\d\d:\d\dZ$/)
    }),
  )
})

test('what is served depends on content alone', (t) => {
  fc.assert(
    fc.property(graphs, graphs, heldBlobs, (a, b, held) => {
      const one = makeServedRecord(mergeGraphs(a, b), held).documents
      const other = makeServedRecord(mergeGraphs(b, a), held).documents
      t.deepEqual(
        one.map(({ digest }) => digest),
        other.map(({ digest }) => digest),
      )
    }),
  )
})

test('a record that is too large loses what was seen longest ago, and stays closed', (t) => {
  const limits = fc.integer({ min: 300, max: 4000 })
  fc.assert(
    fc.property(unions, limits, fc.nat(20), (union, bytesMax, modulus) => {
      // Whatever is wanted: `readServed` refuses what is not closed.
      const wanted = new Set([...union.records.keys()].filter((_, at) => at % 20 === modulus))
      readServed(makeServedRecord(union, allBlobs, { bytesMax, wanted }))
      const served = makeServedRecord(union, allBlobs, { bytesMax })
      for (const { bytes } of served.documents) t.true(bytes.length <= bytesMax)
      const { graph } = readServed(served)
      const whole = readServed(makeServedRecord(union, allBlobs)).graph
      const sequenceOf = (key: string) => union.records.get(key)?.sequence ?? 0
      const kept = [...graph.records.values()].filter(({ results }) => results.size > 0)
      const left = [...whole.records.values()].filter(
        ({ key, results }) => results.size > 0 && !graph.records.has(key),
      )
      for (const { key } of kept) {
        for (const { key: other } of left) t.true(sequenceOf(key) >= sequenceOf(other))
      }
    }),
  )
})

test('what a build wants comes first when not everything fits, and is closed too', (t) => {
  const builds = Array.from({ length: 40 }, (_, each) => longBuild(`build ${each}`, 150))
  const union = mergeGraphs(
    ...builds.map((build, position) => relabelled(build, labelOf(position + 1))),
  )
  const [oldest, next] = builds
  const wanted = new Set([...(oldest?.records.keys() ?? [])].slice(-1))
  const whole = makeServedRecord(union, heldOf(union))
  t.false(whole.isWhole)
  const narrowed = makeServedRecord(union, heldOf(union), { wanted })
  t.false(narrowed.isWhole)
  const { graph } = readServed(narrowed)
  for (const key of oldest?.records.keys() ?? []) t.is(graph.records.get(key)?.results.size, 1)
  for (const key of next?.records.keys() ?? []) t.false(graph.records.has(key))
  t.true(makeServedRecord(builds[0] ?? emptyGraph, heldOf(union), { wanted }).isWhole)
})

test('a record of nothing is valid, and empty', (t) => {
  const served = makeServedRecord(emptyGraph, new Map())
  const { graph, descriptor, config, manifest } = readServed(served)
  t.is(graph.records.size, 0)
  t.is(served.records, 0)
  t.is(descriptor.digest, config.digest)
  t.is(descriptor.size, config.bytes.length)
  t.is(manifest.tag, 'record')
  t.is(manifest.digest, digestOf(manifest.bytes))
})

test('a blob of another length than its descriptor says is not served', (t) => {
  fc.assert(
    fc.property(unions, (union) => {
      const wrong = new Map([...allBlobs].map(([digest, blob]) => [digest, { ...blob, size: 1e9 }]))
      t.is(makeServedRecord(union, wrong).blobs.length, 0)
    }),
  )
})

/** A build of `count` steps in a row, each with a layer of its own. */
function longBuild(name: string, count: number): Graph {
  const blobs = Array.from({ length: count }, (_, step) => digestOf(`${name} ${step}`))
  return parseConfig(
    {
      layers: blobs.map((blob, step) => ({ blob, parent: step - 1 })),
      records: blobs.map((blob, step) => ({
        digest: digestOf(`step of ${blob}`),
        layers: [{ layer: step }],
        ...(step === 0 ? {} : { inputs: [[{ link: step - 1 }]] }),
      })),
    },
    new Map(blobs.map((blob) => [blob, descriptorOf(blob)])),
    0,
  )
}

function heldOf(graph: Graph) {
  return new Map(
    Array.from(graph.descriptors, ([digest, { descriptor }]) => [
      digest,
      { digest, size: descriptor.size },
    ]),
  )
}

test('config and manifest stay within what BuildKit reads, newest builds first', (t) => {
  const builds = Array.from({ length: 40 }, (_, each) => longBuild(`build ${each}`, 150))
  const union = mergeGraphs(
    ...builds.map((build, position) => relabelled(build, labelOf(position + 1))),
  )
  const served = makeServedRecord(union, heldOf(union))
  for (const { bytes } of served.documents) t.true(bytes.length <= 1024 * 1024)
  t.true(served.documents.some(({ bytes }) => bytes.length > 900 * 1024))
  const { graph } = readServed(served)
  const newest = builds.at(-1)?.records.keys() ?? []
  for (const key of newest) t.is(graph.records.get(key)?.results.size, 1)
  const oldest = builds[0]?.records.keys() ?? []
  for (const key of oldest) t.false(graph.records.has(key))
})

test('descriptors come along as they are', (t) => {
  const build = longBuild('x', 3)
  const { layers } = readServed(makeServedRecord(build, heldOf(build)))
  for (const each of layers) t.deepEqual(each, descriptorOf(each.digest))
  t.is(layers.length, 3)
})
