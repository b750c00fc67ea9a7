import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { Writable } from 'node:stream'
import test from 'ava'
import { open } from 'lmdb'
import { digestOf } from '../../../core/digest.ts'
import { HearthError } from '../../../core/errors.ts'
import { createLogger, type Logger, silentLogger } from '../../../core/log.ts'
import { makeScope, type Scope, scopeId } from '../../../core/scope.ts'
import { type CacheStore, openCacheStore } from '../../cache-store/index.ts'
import { readFragment } from './fragment.ts'
import { createRecords } from './fragments.ts'
import type { ComposedRecord, Records } from './index.ts'
import { parseJson } from './manifest.ts'
import { names, pushRecord, put, servedDigests } from './pushed-records.fixture.ts'
import { configShape } from './record.ts'
import { fragmentsMax } from './scope-record.ts'

let folder: string
let store: CacheStore
test.before(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'hearth-records-'))
  store = await openCacheStore({ folder: path.join(folder, 'store'), log: silentLogger })
})
test.after.always(async () => {
  await store[Symbol.asyncDispose]()
  await rm(folder, { recursive: true, force: true })
})

let count = 0

/** Records in a folder of their own, and a scope that no other test uses. */
async function openRecords(log: Logger = silentLogger) {
  count += 1
  const scope = makeScope(`app-${count}`, 'main')
  const at = path.join(folder, `records-${count}`)
  const records = await createRecords({ store, log }, { folder: at })
  return { records, scope, at }
}

/** The layers that a composed record serves, by what they hold. */
async function servedLayers(scope: Scope, composed: ComposedRecord): Promise<string[]> {
  const contents = servedDigests(composed).map(async (digest) => {
    const source = await store.open(scope, digest, { signal: AbortSignal.timeout(10_000) })
    return Buffer.concat((await source?.toArray()) ?? [])
      .toString()
      .replace('layer ', '')
  })
  return (await Promise.all(contents)).sort()
}

async function composedLayers(records: Records, scope: Scope): Promise<string[]> {
  using composed = records.compose(scope)
  return await servedLayers(scope, composed)
}

test('a scope without fragments has an empty record', async (t) => {
  const { records, scope } = await openRecords()
  await using _closed = records
  using composed = records.compose(scope)
  t.is(composed.records, 0)
  t.is(composed.layers, 0)
  t.is(composed.documents.length, 2)
  t.is(records.count(scope), 0)
})

test('the record of a scope is the union of what its builds exported, in either form', async (t) => {
  const { records, scope } = await openRecords()
  await using _closed = records
  const first = await records.keep(scope, await pushRecord(store, scope, names('abc')))
  t.true(first.added)
  await records.keep(scope, await pushRecord(store, scope, names('abx'), { asIndex: true }))
  using composed = records.compose(scope)
  t.is(composed.records, 4)
  t.deepEqual(await servedLayers(scope, composed), ['a', 'b', 'c', 'x'])
  t.is(composed.layers, 4)
  t.is(records.count(scope), 2)
  t.is(composed.documents[0]?.tag, 'record')
  const [, config] = composed.documents
  t.is(config && digestOf(config.bytes), config?.digest)
})

test('another scope does not see it', async (t) => {
  const { records, scope } = await openRecords()
  await using _closed = records
  await records.keep(scope, await pushRecord(store, scope, names('abc')))
  const other = makeScope(scope.project, 'fork')
  t.is(records.compose(other).records, 0)
  const manifest = await pushRecord(store, scope, names('abc'))
  await t.throwsAsync(records.keep(other, manifest), { instanceOf: HearthError })
  t.is(records.count(other), 0)
})

test('the same build again is the same fragment, whenever it ran', async (t) => {
  const { records, scope } = await openRecords()
  await using _closed = records
  const first = await records.keep(scope, await pushRecord(store, scope, names('abc')))
  const later = await pushRecord(store, scope, names('abc'), { createdAt: '2040-01-01T00:00:00Z' })
  const second = await records.keep(scope, later)
  t.deepEqual(second, { fragment: first.fragment, added: false })
  t.is(records.count(scope), 1)
})

test('a build that holds what earlier ones held makes them superfluous', async (t) => {
  const { records, scope } = await openRecords()
  await using _closed = records
  const first = await records.keep(scope, await pushRecord(store, scope, names('ab')))
  await records.keep(scope, await pushRecord(store, scope, names('xy')))
  t.not(store.stat(scope, first.fragment), undefined)
  await records.keep(scope, await pushRecord(store, scope, names('abc')))
  t.is(records.count(scope), 2)
  t.is(store.stat(scope, first.fragment), undefined)
  t.deepEqual(await composedLayers(records, scope), ['a', 'b', 'c', 'x', 'y'])
})

test('of two results for one step, the one kept last is served', async (t) => {
  const { records, scope } = await openRecords()
  await using _closed = records
  const old = await pushRecord(store, scope, [{ name: 'a', layer: 'old a' }, { name: 'b' }])
  const fresh = await pushRecord(store, scope, [{ name: 'a', layer: 'new a' }, { name: 'c' }])
  await records.keep(scope, old)
  await records.keep(scope, fresh)
  // Step b was made upon the old a, and needs it.
  t.deepEqual(await composedLayers(records, scope), ['b', 'c', 'new a', 'old a'])
  await records.keep(scope, old)
  t.is(records.count(scope), 2)
  using composed = records.compose(scope)
  const config = parseJson(composed.documents[1]?.bytes ?? Buffer.alloc(0), configShape, 'it')
  const a = config.records?.find(({ digest }) => digest === digestOf('step a'))
  const layer = config.layers?.[a?.layers?.[0]?.layer ?? -1]
  t.is(layer?.blob, digestOf('layer old a'))
})

test('a result whose layer is not here is not kept; one without any is no fragment', async (t) => {
  const { records, scope } = await openRecords()
  await using _closed = records
  await put(store, scope, 'layer a')
  await put(store, scope, 'layer c')
  const partly = await pushRecord(store, scope, names('abc'), { withoutBlobs: true })
  t.true((await records.keep(scope, partly)).added)
  t.deepEqual(await composedLayers(records, scope), ['a'])
  const nothing = await pushRecord(store, scope, names('xyz'), { withoutBlobs: true })
  t.false((await records.keep(scope, nothing)).added)
  t.is(records.count(scope), 1)
})

test('what is no record of a cache is refused, and nothing is kept of it', async (t) => {
  const { records, scope } = await openRecords()
  await using _closed = records
  const image = await put(
    store,
    scope,
    JSON.stringify({ schemaVersion: 2, config: {}, layers: [] }),
  )
  const text = await put(store, scope, 'some text')
  for (const { digest } of [image, text]) {
    t.like(await t.throwsAsync(records.keep(scope, digest)), { code: 'invalid-input' })
  }
  t.like(await t.throwsAsync(records.keep(scope, digestOf('absent'))), { code: 'not-found' })
  t.is(records.count(scope), 0)
})

test('a blob that is gone takes its steps out of the record, and comes back with the next build', async (t) => {
  const { records, scope } = await openRecords()
  await using _closed = records
  const manifest = await pushRecord(store, scope, names('abc'))
  await records.keep(scope, manifest)
  t.deepEqual(await composedLayers(records, scope), ['a', 'b', 'c'])
  await store.remove(scope, digestOf('layer b'))
  using composed = records.compose(scope)
  t.deepEqual(await servedLayers(scope, composed), ['a'])
  t.is(composed.layers, 1)
  t.deepEqual([...composed.pin.held.keys()], [digestOf('layer a')])
  await put(store, scope, 'layer b')
  await records.keep(scope, manifest)
  t.deepEqual(await composedLayers(records, scope), ['a', 'b', 'c'])
})

test('what is served cannot be evicted until the build is over', async (t) => {
  await using tight = await openCacheStore({
    folder: path.join(folder, 'tight'),
    log: silentLogger,
  })
  await using records = await createRecords(
    { store: tight, log: silentLogger },
    { folder: path.join(folder, 'tight-records') },
  )
  const scope = makeScope('tight', 'main')
  await records.keep(scope, await pushRecord(tight, scope, names('abc')))
  const held = () => [...'abc'].filter((name) => tight.stat(scope, digestOf(`layer ${name}`)))
  const composed = records.compose(scope)
  tight.setPolicies(new Map([['tight', { bytesMax: 0, daysMax: 0 }]]))
  await tight.evict()
  t.deepEqual(held(), ['a', 'b', 'c'])
  composed[Symbol.dispose]()
  await tight.evict()
  t.deepEqual(held(), [])
  t.is(records.compose(scope).layers, 0)
})

test('fragments survive a restart, in their order', async (t) => {
  const { records, scope, at } = await openRecords()
  await records.keep(
    scope,
    await pushRecord(store, scope, [{ name: 'a', layer: 'first' }, { name: 'b' }]),
  )
  await records.keep(
    scope,
    await pushRecord(store, scope, [{ name: 'a', layer: 'second' }, { name: 'c' }]),
  )
  const before = records.compose(scope)
  await records[Symbol.asyncDispose]()
  await using again = await createRecords({ store, log: silentLogger }, { folder: at })
  t.is(again.count(scope), 2)
  const after = again.compose(scope)
  t.deepEqual(
    after.documents.map(({ digest }) => digest),
    before.documents.map(({ digest }) => digest),
  )
  // The next one is still the latest.
  await again.keep(scope, await pushRecord(store, scope, [{ name: 'a', layer: 'third' }]))
  t.deepEqual(await composedLayers(again, scope), ['b', 'c', 'first', 'second', 'third'])
})

test('a fragment is also a blob, for other nodes to read', async (t) => {
  const { records, scope } = await openRecords()
  await using _closed = records
  const { fragment } = await records.keep(scope, await pushRecord(store, scope, names('abc')))
  const source = await store.open(scope, fragment, { signal: AbortSignal.timeout(10_000) })
  const graph = readFragment(Buffer.concat((await source?.toArray()) ?? []), 1)
  t.is(graph.records.size, 3)
})

test('a fragment of a newer Hearth, and one that cannot be read, are left alone with a line in the log', async (t) => {
  const lines: string[] = []
  const sink = new Writable({
    write(chunk: Buffer, _encoding, done) {
      lines.push(chunk.toString())
      done()
    },
  })
  const { records, scope, at } = await openRecords()
  await records.keep(scope, await pushRecord(store, scope, names('abc')))
  await records[Symbol.asyncDispose]()
  const root = open({ path: at, maxDbs: 4, compression: true })
  const rows = root.openDB('fragments', { encoding: 'msgpack' })
  const bytes = Buffer.from('{"version":1}')
  await rows.put([scopeId(scope), digestOf('newer')], { version: 2, sequence: 7, bytes })
  await rows.put([scopeId(scope), digestOf('broken')], { version: 1, sequence: 8, bytes })
  await root.close()
  await using again = await createRecords(
    { store, log: createLogger('warn', sink) },
    { folder: at },
  )
  t.deepEqual(await composedLayers(again, scope), ['a', 'b', 'c'])
  t.is(again.count(scope), 3)
  t.is(lines.filter((line) => line.includes('newer Hearth')).length, 1)
  t.is(lines.filter((line) => line.includes('cannot be read')).length, 1)
})

test('a reset forgets the fragments of one scope', async (t) => {
  const { records, scope } = await openRecords()
  await using _closed = records
  const other = makeScope(scope.project, 'other')
  await records.keep(scope, await pushRecord(store, scope, names('abc')))
  await records.keep(other, await pushRecord(store, other, names('abc')))
  await records.reset(scope)
  t.is(records.count(scope), 0)
  t.is(records.compose(scope).records, 0)
  t.is(records.count(other), 1)
  t.deepEqual(await composedLayers(records, other), ['a', 'b', 'c'])
})

test('builds that end at once are all kept', async (t) => {
  const { records, scope } = await openRecords()
  await using _closed = records
  const builds = [...'abcdefgh']
  const manifests = await Promise.all(
    builds.map((each) => pushRecord(store, scope, names(`${each}z`))),
  )
  await Promise.all(manifests.map((manifest) => records.keep(scope, manifest)))
  t.is(records.count(scope), builds.length)
  // Each z stands on another step, so that there are eight of them, with one layer.
  t.is(records.compose(scope).records, 16)
})

test('the number of fragments is bounded, and the oldest goes first', async (t) => {
  const { records, scope } = await openRecords()
  await using _closed = records
  const builds = Array.from({ length: fragmentsMax + 3 }, (_, each) => `build ${each}`)
  const manifests = await Promise.all(builds.map((name) => pushRecord(store, scope, [{ name }])))
  for (const manifest of manifests) await records.keep(scope, manifest)
  t.is(records.count(scope), fragmentsMax)
  const layers = await composedLayers(records, scope)
  t.is(layers.length, fragmentsMax)
  t.false(layers.includes('build 2'))
  t.true(layers.includes('build 3'))
})

test.serial('the record of 500 steps is composed within 5 ms', async (t) => {
  const { records, scope } = await openRecords()
  await using _closed = records
  const steps = Array.from({ length: 500 }, (_, step) => ({ name: `step ${step}` }))
  await records.keep(scope, await pushRecord(store, scope, steps))
  const times: number[] = []
  for (let round = 0; round < 200; round += 1) {
    const startedAtMs = performance.now()
    const composed = records.compose(scope)
    times.push(performance.now() - startedAtMs)
    t.is(composed.layers, 500)
    composed[Symbol.dispose]()
  }
  // The fastest: the others say how busy the machine was.
  const best = Math.min(...times)
  t.log(`best ${best.toFixed(2)} ms, most ${Math.max(...times).toFixed(2)} ms`)
  t.true(best < 5, `${best} ms`)
})
