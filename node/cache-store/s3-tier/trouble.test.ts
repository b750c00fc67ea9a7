import { fork as forkProcess } from 'node:child_process'
import { once } from 'node:events'
import { buffer } from 'node:stream/consumers'
import test from 'ava'
import { type Digest, digestOf } from '../../../core/digest.ts'
import { measureFolders } from '../../../core/disk.ts'
import { mib } from '../../../core/limits.ts'
import { freePort, type S3Server, startS3 } from '../../../test/harness/index.ts'
import { never, scope, temporaryFolder, temporaryStore } from '../temporary-store.fixture.ts'
import { type Fault, startFaultyProxy } from './faulty-proxy.fixture.ts'
import { collectLog, makeFragment, ownPlace, sharedS3, startNode, until } from './tier.fixture.ts'

const s3 = sharedS3(test)
const all = { known: new Set<Digest>(), signal: never }

/** Parts of an upload that is under way, too. */
function bytesBelow(folder: string): Promise<number> {
  return measureFolders([folder], { signal: never })
}

const outages: [string, Fault][] = [
  ['says nothing', 'silence'],
  ['closes connections', 'reset'],
  ['is overloaded', { status: 503, code: 'SlowDown' }],
]
for (const [what, fault] of outages) {
  test(`while it ${what}, nothing is there and nothing fails; then all goes on`, async (t) => {
    const proxy = await startFaultyProxy(t, s3())
    const { log, said } = collectLog()
    const url = ownPlace(s3())
    const limits = { stallMs: 1_000 }
    const { store, tier } = await startNode(t, proxy.server, url, { log, limits })
    const before = await makeFragment(store, [1000])
    await tier.keep(scope, before)

    proxy.breakWith(() => fault)
    const after = await makeFragment(store, [1000])
    let isKept = false
    const kept = tier.keep(scope, after).then(() => {
      isKept = true
    })
    t.deepEqual(await tier.fragments(scope, all), [])
    await until(() => before.blobs.every(({ digest }) => !tier.has(digest)))
    t.regex(tier.state().trouble ?? '', /endpoint|patience/)
    t.like(tier.state(), { queuedFragments: 1, queuedBytes: 1000 })
    t.false(isKept)
    // Once for reading and once for writing, not for each failure.
    t.true((said().match(/trouble while/g) ?? []).length <= 4)

    proxy.breakWith(() => undefined)
    await kept
    await until(() => before.blobs.every(({ digest }) => tier.has(digest)))
    t.is((await tier.fragments(scope, all)).length, 2)
    t.is(tier.state().trouble, undefined)
    t.regex(said(), /no more trouble while reading/)
  })
}

test('a node whose object store is away starts, and uploads what it kept meanwhile later', async (t) => {
  const port = await freePort()
  const folder = await temporaryFolder(t)
  const away: S3Server = { ...s3(), endpoint: `http://127.0.0.1:${port}` }
  const url = ownPlace(s3())
  const { store, tier } = await startNode(t, away, url)
  const kept = tier.keep(scope, await makeFragment(store, [1000]))
  await until(() => tier.state().trouble !== undefined)
  await using _server = await startS3({ folder, port })
  await kept
  t.deepEqual(tier.state(), { queuedFragments: 0, queuedBytes: 0 })
})

test('a server that is killed in mid-upload gets the rest when it is back', async (t) => {
  const port = await freePort()
  const folder = await temporaryFolder(t)
  const url = ownPlace(s3())
  const server = await startS3({ folder, port })
  // So slow that the upload is under way when the server dies.
  const limits = { uploadBytesPerS: 20 * mib, partBytes: 5 * mib }
  const { store, tier } = await startNode(t, server, url, { limits })
  const fragment = await makeFragment(store, [40 * mib])
  const kept = tier.keep(scope, fragment)
  await until(async () => (await bytesBelow(folder)) > 5 * mib)
  await server.process.stop({ signal: 'SIGKILL' })
  await until(() => tier.state().trouble !== undefined)
  await using _again = await startS3({ folder, port })
  await kept
  await server[Symbol.asyncDispose]()
  const [blob] = fragment.blobs
  const source = blob && (await tier.read(blob, { signal: never }))
  t.is(source && digestOf(await buffer(source)), blob?.digest)
})

test('a node that is killed in mid-upload goes on with the queue when it starts again', async (t) => {
  const url = ownPlace(s3())
  const folder = await temporaryFolder(t)
  const child = forkProcess(new URL('./killed-node.fixture.ts', import.meta.url), {
    execArgv: [],
    serialization: 'advanced',
  })
  child.send({ server: { ...s3(), process: undefined }, url, folder })
  const [{ blobs }] = await once(child, 'message')
  child.kill('SIGKILL')
  await once(child, 'exit')

  const { store } = await temporaryStore(t, { folder: `${folder}/store` })
  const { tier } = await startNode(t, s3(), url, { folder, store })
  // The small one may have been through.
  t.true(tier.state().queuedFragments > 0)
  await until(() => tier.state().queuedFragments === 0)
  t.is((await tier.fragments(scope, all)).length, 2)
  for (const blob of blobs) {
    const source = await tier.read(blob, { signal: never })
    t.is(source && digestOf(await buffer(source)), blob.digest)
  }
})

test('credentials that may not write are good for reading; the log says what they lack', async (t) => {
  const url = ownPlace(s3())
  const writer = await startNode(t, s3(), url)
  const fragment = await makeFragment(writer.store, [1000])
  await writer.tier.keep(scope, fragment)
  const proxy = await startFaultyProxy(t, s3())
  const denied = { status: 403, code: 'AccessDenied' }
  proxy.breakWith((request) => (/^(PUT|POST|DELETE)/.test(request) ? denied : undefined))
  const { log, said } = collectLog()
  const { store, tier } = await startNode(t, proxy.server, url, { log })
  tier.keep(scope, await makeFragment(store, [10])).catch(() => {})
  await until(() => tier.state().trouble !== undefined)
  t.regex(said(), /s3:PutObject/)
  t.is((await tier.fragments(scope, all)).length, 1)
  t.true(fragment.blobs.every(({ digest }) => tier.has(digest)))
})

test('what is wrong with the settings is said with its remedy', async (t) => {
  const cases: [Record<string, unknown>, string, RegExp][] = [
    [{}, 's3://no-such-bucket/app', /make the bucket/],
    [
      { credentials: { accessKeyId: 'hearth', secretAccessKey: 'wrong' } },
      ownPlace(s3()),
      /AWS_ACCESS_KEY_ID/,
    ],
    [{ endpoint: 'http://127.0.0.1:9' }, ownPlace(s3()), /--s3-endpoint/],
  ]
  for (const [tier, url, remedy] of cases) {
    const { log, said } = collectLog()
    const node = await startNode(t, s3(), url, { log, tier })
    await until(() => node.tier.state().trouble !== undefined)
    t.regex(said(), remedy)
    t.deepEqual(await node.tier.fragments(scope, all), [])
  }
  for (const [url, tier] of [
    ['https://bucket/prefix', {}],
    ['s3://bucket//x', {}],
    ['s3://UPPER/x', {}],
    ['s3://bucket', { endpoint: 'localhost:9000' }],
  ] as const) {
    t.like(await t.throwsAsync(startNode(t, s3(), url, { tier })), { code: 'invalid-input' }, url)
  }
})

const damages: [string, Fault][] = [
  ['cut short', 'truncated'],
  ['broken off', 'broken off'],
  ['with a flipped bit', 'flipped bit'],
]
for (const [how, fault] of damages) {
  test(`a fragment that arrives ${how} is not given, and is read again later`, async (t) => {
    const url = ownPlace(s3())
    const writer = await startNode(t, s3(), url)
    await writer.tier.keep(scope, await makeFragment(writer.store, [1000]))
    const proxy = await startFaultyProxy(t, s3())
    const { log, said } = collectLog()
    const node = await startNode(t, proxy.server, url, { log })
    proxy.breakWith((request) => (/^GET .*fragments\/\w/.test(request) ? fault : undefined))
    t.deepEqual(await node.tier.fragments(scope, all), [])
    t.regex(said(), /damaged|did not arrive whole|trouble/)
    proxy.breakWith(() => undefined)
    await node.tier[Symbol.asyncDispose]()
    const { tier } = await startNode(t, proxy.server, url, {
      folder: node.folder,
      store: node.store,
    })
    await until(async () => (await tier.fragments(scope, all)).length === 1)
    t.pass()
  })
}
