import { writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import fc from 'fast-check'
import type { Digest } from '../../../core/digest.ts'
import { silentLogger } from '../../../core/log.ts'
import { findProgram } from '../../../core/programs.ts'
import {
  type Buildkitd,
  createTemporaryFolder,
  startBuildkitd,
  startProcess,
} from '../../../test/harness/index.ts'
import { type BuildResult, base, build, run } from '../registry/buildctl.fixture.ts'
import type { Grant } from '../registry/index.ts'
import { openFixture, scope } from '../registry/temporary-registry.fixture.ts'
import { createRecords } from './fragments.ts'
import { allBlobs, descriptors, unions } from './generated-records.fixture.ts'
import { parseCacheManifest, parseJson } from './manifest.ts'
import { configShape, parseConfig } from './record.ts'
import { makeServedRecord } from './serve-record.ts'

interface Built extends BuildResult {
  /** Bytes of layers that were read for it. */
  readonly bytesRead: number
  readonly undeliverable: number
}

/** A node's registry and records, and builds that read and write them as behind the proxy. */
async function openNode() {
  await using stack = new AsyncDisposableStack()
  const fixture = stack.use(await openFixture())
  const { folder, registry, store } = fixture
  const records = stack.use(
    await createRecords({ store, log: silentLogger }, { folder: path.join(folder, 'records') }),
  )
  const refOf = (grant: Grant) => `127.0.0.1:${registry.port}/${grant.capability}/cache:record`
  const held = stack.move()
  return {
    store,
    records,
    async build(
      daemon: Buildkitd,
      dockerfile: string,
      options: { keep?: boolean; exportWith?: string; noCache?: boolean } = {},
    ): Promise<Built> {
      using record = records.compose(scope)
      using reading = fixture.reader(record.documents)
      using writing = fixture.writer()
      const result = await build(folder, {
        ...options,
        address: daemon.address,
        dockerfile,
        files: { file: 'content' },
        importFrom: refOf(reading),
        ...(options.keep ? { exportTo: refOf(writing) } : {}),
      })
      const pushed = writing.pushed.get('record')
      if (pushed !== undefined) await records.keep(scope, pushed.digest)
      const { bytesRead, undeliverable } = reading
      return { ...result, bytesRead, undeliverable: undeliverable.size }
    },
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  }
}

function allSteps(t: ExecutionContext, built: Built, state: 'cached' | 'ran', count: number): void {
  t.is(built.exitCode, 0, built.output)
  t.deepEqual([...built.steps.values()], Array(count).fill(state), built.output)
  t.is(built.undeliverable, 0)
}

const apples = `${base}${run('common')}${run('apples')}COPY file /more-apples/\n`
const pears = `${base}${run('common')}${run('pears')}COPY file /more-pears/\n`

test('a third daemon hits what two others have built on their own', async (t) => {
  await using node = await openNode()
  let first: Built
  let second: Built
  {
    await using one = await startBuildkitd()
    await using two = await startBuildkitd()
    // Neither sees the other's work: both begin with the empty record.
    first = await node.build(one, apples, { keep: true })
    await node.records.reset(scope)
    second = await node.build(two, pears, { keep: true })
    allSteps(t, first, 'ran', 4)
    allSteps(t, second, 'ran', 4)
    t.notRegex(first.output, /ERROR/)
    // The first one's fragment joins last, as if it came from another node.
    const unchanged = await node.build(one, apples, { keep: true })
    allSteps(t, unchanged, 'cached', 4)
    t.is(node.records.count(scope), 2)
    // The union holds other results for the common steps; what this daemon made itself still wins.
    t.deepEqual(unchanged.layers, first.layers)
    t.is(unchanged.bytesRead, 0)
    const own = await node.build(two, pears)
    t.deepEqual(own.layers, second.layers)
    t.is(own.bytesRead, 0)
  }
  await using third = await startBuildkitd()
  const hit = await node.build(third, apples)
  allSteps(t, hit, 'cached', 4)
  t.deepEqual(hit.layers, first.layers)
  const other = await node.build(third, pears)
  allSteps(t, other, 'cached', 4)
  t.deepEqual(other.layers, second.layers)
})

test('after a build without cache, a fresh daemon gets what that build made', async (t) => {
  await using node = await openNode()
  let last: Built
  {
    await using daemon = await startBuildkitd()
    const first = await node.build(daemon, apples, { keep: true })
    last = await node.build(daemon, apples, { keep: true, noCache: true })
    t.notDeepEqual(last.layers, first.layers)
    t.is(node.records.count(scope), 1)
  }
  await using fresh = await startBuildkitd()
  const hit = await node.build(fresh, apples)
  allSteps(t, hit, 'cached', 4)
  t.deepEqual(hit.layers, last.layers)
  // What a refilled daemon exports is what was there before.
  await node.build(fresh, apples, { keep: true })
  t.is(node.records.count(scope), 1)
})

test('what was evicted is built again, and the rest is a hit', async (t) => {
  await using node = await openNode()
  let first: Built
  {
    await using daemon = await startBuildkitd()
    first = await node.build(daemon, apples, { keep: true })
    allSteps(t, first, 'ran', 4)
    await node.store.remove(scope, first.layers[2] as Digest)
  }
  await using fresh = await startBuildkitd()
  const built = await node.build(fresh, apples)
  t.is(built.exitCode, 0, built.output)
  t.deepEqual([...built.steps.values()], ['cached', 'cached', 'ran', 'ran'], built.output)
  t.deepEqual(built.layers.slice(0, 2), first.layers.slice(0, 2))
  t.is(built.undeliverable, 0)
})

test('layers keep the annotations of their compression', async (t) => {
  await using node = await openNode()
  let cold: Built
  {
    await using daemon = await startBuildkitd()
    const exportWith = ',compression=estargz,force-compression=true'
    cold = await node.build(daemon, apples, { keep: true, exportWith })
    allSteps(t, cold, 'ran', 4)
  }
  using record = node.records.compose(scope)
  const [manifest] = record.documents
  const { layers } = parseCacheManifest(manifest?.bytes ?? Buffer.alloc(0))
  t.true(layers.length > 0)
  for (const { annotations = {} } of layers) {
    t.truthy(annotations['containerd.io/snapshot/stargz/toc.digest'])
    t.truthy(annotations['containerd.io/uncompressed'])
  }
  await using fresh = await startBuildkitd()
  allSteps(t, await node.build(fresh, apples), 'cached', 4)
})

/** A buildkitd that parses cache configs on request, as it would an import. */
async function startOracle() {
  await using stack = new AsyncDisposableStack()
  const folder = stack.use(await createTemporaryFolder('oracle'))
  const socketPath = path.join(folder.path, 'debug.sock')
  const configuration = path.join(folder.path, 'buildkitd.toml')
  await writeFile(
    configuration,
    [
      `root = "${path.join(folder.path, 'root')}"`,
      `[grpc]\n  address = ["unix://${path.join(folder.path, 'buildkitd.sock')}"]`,
      `  debugAddress = "unix://${socketPath}"`,
      `[otel]\n  socketPath = "${path.join(folder.path, 'otel.sock')}"`,
      '[cdi]\n  disabled = true',
      '[worker.oci]\n  networkMode = "host"',
      '[worker.containerd]\n  enabled = false',
    ].join('\n'),
  )
  stack.use(
    await startProcess({
      command: await findProgram('buildkitd'),
      args: ['--config', configuration],
      ready: (started) => started.output().includes('running server on'),
    }),
  )
  const held = stack.move()
  return {
    load: (config: Uint8Array | string) =>
      new Promise<{ accepted: boolean; text: string }>((resolve, reject) => {
        const sent = request({ socketPath, method: 'POST', path: '/debug/cache/load' })
        sent.once('error', reject)
        sent.once('response', (response) => {
          response
            .toArray()
            .then((chunks) => {
              const text = Buffer.concat(chunks as Buffer[]).toString()
              resolve({ accepted: response.statusCode === 200, text })
            })
            .catch(reject)
        })
        sent.end(config)
      }),
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  }
}

test('BuildKit reads every record that we write, and finds every step in it', async (t) => {
  await using oracle = await startOracle()
  await fc.assert(
    fc.asyncProperty(unions, async (union) => {
      const [, config] = makeServedRecord(union, allBlobs).documents
      if (config === undefined) throw new Error('there is no config')
      const { accepted, text } = await oracle.load(config.bytes)
      t.true(accepted, text)
      const { records } = parseJson(config.bytes, configShape, 'a record')
      for (const { digest } of records ?? []) t.true(text.includes(digest), `${digest} in ${text}`)
    }),
    { numRuns: 100 },
  )
})

test('what BuildKit refuses, we refuse', async (t) => {
  await using oracle = await startOracle()
  const link = fc.integer({ min: -1, max: 4 })
  const layer = fc.integer({ min: -2, max: 3 })
  const config = fc.record({
    layers: fc.array(
      fc.record({ blob: fc.constantFrom(...descriptors.keys()), parent: fc.constant(-1) }),
      { maxLength: 3 },
    ),
    records: fc.array(
      fc.record({
        digest: fc.constantFrom('sha256:a', 'sha256:b'),
        layers: fc.array(fc.record({ layer }), { maxLength: 1 }),
        chains: fc.array(fc.record({ layers: fc.array(layer, { maxLength: 2 }) }), {
          maxLength: 1,
        }),
        inputs: fc.array(fc.array(fc.record({ link }), { maxLength: 2 }), { maxLength: 2 }),
      }),
      { maxLength: 4 },
    ),
  })
  let refused = 0
  await fc.assert(
    fc.asyncProperty(config, async (each) => {
      const text = JSON.stringify(each)
      const { accepted } = await oracle.load(text)
      if (accepted) return
      refused += 1
      const shaped = parseJson(Buffer.from(text), configShape, 'a record')
      t.throws(() => parseConfig(shaped, descriptors, 1), undefined, text)
    }),
    { numRuns: 300 },
  )
  t.true(refused > 10, `${refused} refused`)
})
