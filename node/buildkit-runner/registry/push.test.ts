import { once } from 'node:events'
import { request } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import test from 'ava'
import { digestOf } from '../../../core/digest.ts'
import { HearthError } from '../../../core/errors.ts'
import { mib } from '../../../core/limits.ts'
import { silentLogger } from '../../../core/log.ts'
import { createRegistry, type Grant } from './index.ts'
import {
  type Answer,
  call,
  type Fixture,
  freshBytes,
  openFixture,
  repository,
  scope,
} from './temporary-registry.fixture.ts'

// One store for most: each test has bytes and grants of its own.
let shared: Fixture
test.before(async () => {
  shared = await openFixture()
})
test.after.always(() => shared[Symbol.asyncDispose]())

const uploads = (grant: Grant) => `${repository(grant)}/blobs/uploads/`

async function startUpload(fixture: Fixture, grant: Grant): Promise<string> {
  const answer = await fixture.call('POST', uploads(grant))
  if (answer.status !== 202) throw new Error(`no upload: ${answer.status} ${answer.body}`)
  return String(answer.headers.location)
}

/** Asks until the answer is as wanted. */
async function until(ask: () => Promise<Answer>, status: number): Promise<Answer> {
  const deadline = performance.now() + 20_000
  for (;;) {
    const answer = await ask()
    if (answer.status === status || performance.now() > deadline) return answer
    await delay(20)
  }
}

test('a blob is pushed in one request', async (t) => {
  const fixture = shared
  const { bytes, digest } = freshBytes(2 * mib + 3)
  using grant = fixture.writer()
  const answer = await fixture.call('POST', `${uploads(grant)}?digest=${digest}`, { body: bytes })
  t.is(answer.status, 201)
  t.is(answer.headers.location, `${repository(grant)}/blobs/${digest}`)
  t.is(fixture.store.stat(scope, digest)?.size, bytes.length)
  t.is(grant.bytesUploaded, bytes.length)
  t.deepEqual((await fixture.call('GET', String(answer.headers.location))).body, bytes)
})

test('a blob is pushed in chunks, and its progress can be asked for', async (t) => {
  const fixture = shared
  const { bytes, digest } = freshBytes(1000)
  using grant = fixture.writer()
  const location = await startUpload(fixture, grant)
  t.is((await fixture.call('GET', location)).headers.range, '0-0')
  const first = await fixture.call('PATCH', location, {
    body: bytes.subarray(0, 400),
    headers: { 'content-range': '0-399' },
  })
  t.is(first.status, 202)
  t.is(first.headers.range, '0-399')
  t.is((await fixture.call('PATCH', location, { body: bytes.subarray(400, 700) })).status, 202)
  const status = await fixture.call('GET', location)
  t.is(status.status, 204)
  t.is(status.headers.range, '0-699')
  const end = await fixture.call('PUT', `${location}?digest=${digest}`, {
    body: bytes.subarray(700),
    headers: { 'content-range': '700-999' },
  })
  t.is(end.status, 201)
  t.is(end.headers['docker-content-digest'], digest)
  t.is(fixture.store.stat(scope, digest)?.size, 1000)
  t.is((await fixture.call('GET', location)).code, 'BLOB_UPLOAD_UNKNOWN')
})

test('a gap between chunks is refused, and the upload goes on where it was', async (t) => {
  const fixture = shared
  const { bytes, digest } = freshBytes(100)
  using grant = fixture.writer()
  const location = await startUpload(fixture, grant)
  await fixture.call('PATCH', location, { body: bytes.subarray(0, 10) })
  for (const range of ['20-29', '0-9']) {
    const gap = await fixture.call('PATCH', location, {
      body: bytes.subarray(0, 10),
      headers: { 'content-range': range },
    })
    t.is(gap.status, 416)
    t.is(gap.headers.range, '0-9')
  }
  const wrongLength = await fixture.call('PATCH', location, {
    body: bytes.subarray(10, 20),
    headers: { 'content-range': '10-14' },
  })
  t.is(wrongLength.code, 'SIZE_INVALID')
  const end = await fixture.call('PUT', `${location}?digest=${digest}`, {
    body: bytes.subarray(10),
  })
  t.is(end.status, 201)
})

test('bytes with another digest are refused, and nothing of them stays', async (t) => {
  const fixture = shared
  const { digest } = freshBytes(10)
  using grant = fixture.writer()
  const whole = await fixture.call('POST', `${uploads(grant)}?digest=${digest}`, { body: 'other' })
  t.is(whole.status, 400)
  t.is(whole.code, 'DIGEST_INVALID')
  const location = await startUpload(fixture, grant)
  const end = await fixture.call('PUT', `${location}?digest=${digest}`, { body: 'other' })
  t.is(end.code, 'DIGEST_INVALID')
  t.is((await fixture.call('GET', location)).code, 'BLOB_UPLOAD_UNKNOWN')
  t.is((await fixture.call('PUT', `${await startUpload(fixture, grant)}`)).code, 'DIGEST_INVALID')
  t.is(fixture.store.stat(scope, digestOf('other')), undefined)
  t.is(grant.bytesUploaded, 0)
})

test('a cancelled upload is gone', async (t) => {
  const fixture = shared
  using grant = fixture.writer()
  const location = await startUpload(fixture, grant)
  t.is((await fixture.call('DELETE', location)).status, 204)
  t.is((await fixture.call('PATCH', location, { body: 'x' })).code, 'BLOB_UPLOAD_UNKNOWN')
})

test('an upload belongs to its grant', async (t) => {
  const fixture = shared
  using grant = fixture.writer()
  using other = fixture.writer()
  const id = (await startUpload(fixture, grant)).split('/').at(-1)
  t.is((await fixture.call('GET', `${uploads(other)}${id}`)).code, 'BLOB_UPLOAD_UNKNOWN')
})

test('a read grant can write nothing', async (t) => {
  const fixture = shared
  const { bytes, digest } = freshBytes(10)
  using grant = fixture.reader()
  for (const [method, rest] of [
    ['POST', `blobs/uploads/?digest=${digest}`],
    ['POST', `blobs/uploads/?mount=${digest}`],
    ['PATCH', 'blobs/uploads/1'],
    ['PUT', 'blobs/uploads/1'],
    ['PUT', 'manifests/record'],
  ] as const) {
    const answer = await fixture.call(method, `${repository(grant)}/${rest}`, { body: bytes })
    t.is(answer.status, 404, `${method} ${rest}`)
    t.is(answer.code, 'NAME_UNKNOWN')
  }
  t.is(fixture.store.stat(scope, digest), undefined)
})

test('more uploads than a grant may have are told to wait', async (t) => {
  await using fixture = await openFixture({ uploadsMax: 2 })
  using grant = fixture.writer()
  using other = fixture.writer()
  const answers = await Promise.all([1, 2, 3].map(() => fixture.call('POST', uploads(grant))))
  t.deepEqual(answers.map(({ status }) => status).sort(), [202, 202, 429])
  t.is((await fixture.call('POST', uploads(other))).status, 202)
  const open = answers.find(({ status }) => status === 202)
  await fixture.call('DELETE', String(open?.headers.location))
  t.is((await fixture.call('POST', uploads(grant))).status, 202)
})

test('an upload that is left alone is thrown away', async (t) => {
  await using fixture = await openFixture({ uploadIdleMs: 100 })
  using grant = fixture.writer()
  const location = await startUpload(fixture, grant)
  // A question does not keep it alive.
  t.is((await until(() => fixture.call('GET', location), 404)).code, 'BLOB_UPLOAD_UNKNOWN')
})

test('uploads end with their grant, even in the middle of a chunk', async (t) => {
  const fixture = shared
  const grant = fixture.writer()
  const location = await startUpload(fixture, grant)
  const sending = request({
    host: '127.0.0.1',
    port: fixture.registry.port,
    method: 'PATCH',
    path: location,
  })
  const broken = once(sending, 'error')
  sending.write(freshBytes(64 * 1024).bytes)
  await until(() => fixture.call('GET', location), 204)
  grant[Symbol.dispose]()
  t.is(((await broken)[0] as { code: string }).code, 'ECONNRESET')
  t.is((await fixture.call('GET', location)).code, 'NAME_UNKNOWN')
})

test('a chunk that breaks off leaves what has arrived', async (t) => {
  const fixture = shared
  const { bytes, digest } = freshBytes(200_000)
  using grant = fixture.writer()
  const location = await startUpload(fixture, grant)
  const sending = request({
    host: '127.0.0.1',
    port: fixture.registry.port,
    method: 'PATCH',
    path: location,
    headers: { 'content-length': bytes.length },
  })
  sending.on('error', () => {})
  sending.write(bytes.subarray(0, 100_000))
  await until(async () => {
    const answer = await fixture.call('GET', location)
    return { ...answer, status: answer.headers.range === '0-99999' ? 1 : 0 }
  }, 1)
  sending.destroy()
  const rest = { body: bytes.subarray(100_000), headers: { 'content-range': '100000-199999' } }
  const target = `${location}?digest=${digest}`
  t.is((await until(() => fixture.call('PUT', target, rest), 201)).status, 201)
})

test('a pusher that stalls is cut off', async (t) => {
  await using fixture = await openFixture({ idleMs: 200 })
  using grant = fixture.writer()
  const sending = request({
    host: '127.0.0.1',
    port: fixture.registry.port,
    method: 'POST',
    path: `${uploads(grant)}?digest=${freshBytes(1).digest}`,
    headers: { 'content-length': 1000 },
  })
  sending.write('x')
  const [error] = await once(sending, 'error')
  t.is((error as { code: string }).code, 'ECONNRESET')
})

test('two requests do not write to one upload at a time', async (t) => {
  const fixture = shared
  using grant = fixture.writer()
  const location = await startUpload(fixture, grant)
  const sending = request({
    host: '127.0.0.1',
    port: fixture.registry.port,
    method: 'PATCH',
    path: location,
  })
  sending.write('x'.repeat(10))
  await until(async () => {
    const answer = await fixture.call('GET', location)
    return { ...answer, status: answer.headers.range === '0-9' ? 1 : 0 }
  }, 1)
  const second = await fixture.call('PATCH', location, { body: 'y' })
  t.is(second.status, 409)
  const answered = once(sending, 'response')
  sending.end()
  t.is(((await answered)[0] as { statusCode: number }).statusCode, 202)
})

test('a full disk is said so, and the next upload works', async (t) => {
  const fixture = shared
  let full = true
  const { store } = fixture
  await using registry = await createRegistry({
    store: {
      ...store,
      async createWriter(of) {
        const writer = await store.createWriter(of)
        if (!full) return writer
        const refuse = () =>
          Promise.reject(new HearthError('exhausted', 'the disk is full', { hint: 'free some' }))
        return {
          size: 0,
          write: refuse,
          commit: refuse,
          [Symbol.asyncDispose]: () => writer[Symbol.asyncDispose](),
        }
      },
    },
    log: silentLogger,
    contentFile: () => undefined,
  })
  using grant = registry.grant({ scope, right: 'write', lifetimeMs: 60_000 })
  const { bytes, digest } = freshBytes(3 * mib)
  const push = () =>
    call(registry.port, 'POST', `${uploads(grant)}?digest=${digest}`, { body: bytes })
  const refused = await push()
  t.is(refused.status, 507)
  t.regex(refused.body.toString(), /disk is full/)
  full = false
  t.is((await push()).status, 201)
})

test.serial('200 MB come in with a bounded amount of memory', async (t) => {
  const fixture = shared
  using grant = fixture.writer()
  const location = await startUpload(fixture, grant)
  const piece = freshBytes(4 * mib).bytes
  const count = 50
  const digest = digestOf(Buffer.concat(Array.from({ length: count }, () => piece)))
  const sending = request({
    host: '127.0.0.1',
    port: fixture.registry.port,
    method: 'PUT',
    path: `${location}?digest=${digest}`,
    headers: { 'content-length': count * piece.length },
  })
  const answered = once(sending, 'response')
  const before = process.memoryUsage().arrayBuffers
  let most = 0
  for (let sent = 0; sent < count; sent += 1) {
    if (!sending.write(piece)) await once(sending, 'drain')
    most = Math.max(most, process.memoryUsage().arrayBuffers - before)
  }
  sending.end()
  t.is(((await answered)[0] as { statusCode: number }).statusCode, 201)
  t.is(fixture.store.stat(scope, digest)?.size, count * piece.length)
  // With what the collector has not yet looked at.
  t.true(most < (count * piece.length) / 2, `${most} bytes of buffers`)
})

test('closing the registry ends what is in flight and leaves no upload behind', async (t) => {
  const fixture = shared
  const registry = await createRegistry({
    store: fixture.store,
    log: silentLogger,
    contentFile: () => undefined,
  })
  const grant = registry.grant({ scope, right: 'write', lifetimeMs: 60_000 })
  const sending = request({
    host: '127.0.0.1',
    port: registry.port,
    method: 'POST',
    path: `${uploads(grant)}?digest=${freshBytes(1).digest}`,
  })
  const broken = once(sending, 'error')
  sending.write('x')
  t.is((await call(registry.port, 'GET', '/v2/')).status, 200)
  await registry[Symbol.asyncDispose]()
  await broken
  await t.throwsAsync(call(registry.port, 'GET', '/v2/'))
  t.is(fixture.store.stat(scope, digestOf('x')), undefined)
})
