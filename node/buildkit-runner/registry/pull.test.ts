import { once } from 'node:events'
import { glob, readFile, truncate } from 'node:fs/promises'
import { type IncomingMessage, request } from 'node:http'
import { createConnection } from 'node:net'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import test from 'ava'
import fc from 'fast-check'
import { type Digest, digestHex, digestOf } from '../../../core/digest.ts'
import { mib } from '../../../core/limits.ts'
import { silentLogger } from '../../../core/log.ts'
import { createRegistry } from './index.ts'
import {
  call,
  type Fixture,
  freshBytes,
  openFixture,
  otherScope,
  repository,
  scope,
} from './temporary-registry.fixture.ts'

// One store for all: each test has bytes and grants of its own.
let shared: Fixture
test.before(async () => {
  shared = await openFixture()
})
test.after.always(() => shared[Symbol.asyncDispose]())

test('the ping says which protocol this is', async (t) => {
  const fixture = shared
  const answer = await fixture.call('GET', '/v2/')
  t.is(answer.status, 200)
  t.is(answer.headers['docker-distribution-api-version'], 'registry/2.0')
  t.is((await fixture.call('POST', '/v2/')).status, 405)
})

test('a blob comes whole, with its length and its digest as tag', async (t) => {
  const fixture = shared
  const { bytes, digest } = freshBytes(3 * mib + 5)
  await fixture.put(bytes)
  using grant = fixture.reader()
  const target = `${repository(grant)}/blobs/${digest}`
  const head = await fixture.call('HEAD', target)
  t.is(head.status, 200)
  t.is(head.headers['content-length'], String(bytes.length))
  t.is(grant.bytesRead, 0)
  const got = await fixture.call('GET', target)
  t.is(got.status, 200)
  t.deepEqual(got.body, bytes)
  t.is(got.headers.etag, `"${digest}"`)
  t.is(got.headers['docker-content-digest'], digest)
  t.is(grant.bytesRead, bytes.length)
  t.is(grant.undeliverable.size, 0)
})

test('who has the tag already is told that nothing changed', async (t) => {
  const fixture = shared
  const digest = await fixture.put(freshBytes(10).bytes)
  using grant = fixture.reader()
  const target = `${repository(grant)}/blobs/${digest}`
  const same = await fixture.call('GET', target, { headers: { 'if-none-match': `"${digest}"` } })
  t.is(same.status, 304)
  t.is(same.body.length, 0)
  const other = await fixture.call('GET', target, { headers: { 'if-none-match': '"x"' } })
  t.is(other.status, 200)
})

test('an empty blob is a blob', async (t) => {
  const fixture = shared
  const digest = await fixture.put(Buffer.alloc(0))
  using grant = fixture.reader()
  const answer = await fixture.call('GET', `${repository(grant)}/blobs/${digest}`)
  t.is(answer.status, 200)
  t.is(answer.body.length, 0)
})

test('any single range gives the bytes that a slice would give', async (t) => {
  const fixture = shared
  const { bytes, digest } = freshBytes(70_000)
  await fixture.put(bytes)
  using grant = fixture.reader()
  const target = `${repository(grant)}/blobs/${digest}`
  await fc.assert(
    fc.asyncProperty(fc.nat(80_000), fc.nat(80_000), async (a, b) => {
      const [first, last] = a <= b ? [a, b] : [b, a]
      const answer = await fixture.call('GET', target, {
        headers: { range: `bytes=${first}-${last}` },
      })
      if (first >= bytes.length) {
        t.is(answer.status, 416)
        t.is(answer.headers['content-range'], `bytes */${bytes.length}`)
        return
      }
      const end = Math.min(last, bytes.length - 1)
      t.is(answer.status, 206)
      t.is(answer.headers['content-range'], `bytes ${first}-${end}/${bytes.length}`)
      t.true(answer.body.equals(bytes.subarray(first, end + 1)))
    }),
    { numRuns: 60 },
  )
})

test('a range for another version of the content is ignored', async (t) => {
  const fixture = shared
  const digest = await fixture.put(freshBytes(100).bytes)
  using grant = fixture.reader()
  const target = `${repository(grant)}/blobs/${digest}`
  const ask = (ifRange: string) =>
    fixture.call('GET', target, { headers: { range: 'bytes=1-2', 'if-range': ifRange } })
  t.is((await ask('"other"')).status, 200)
  t.is((await ask(`"${digest}"`)).status, 206)
})

test('documents exist for their grant alone, by tag and digest', async (t) => {
  const fixture = shared
  const bytes = Buffer.from('{"schemaVersion":2}')
  const mediaType = 'application/vnd.oci.image.manifest.v1+json'
  const document = { digest: digestOf(bytes), mediaType, bytes, tag: 'record' }
  using grant = fixture.reader([document])
  using other = fixture.reader()
  for (const target of [`manifests/record`, `manifests/${document.digest}`]) {
    const answer = await fixture.call('GET', `${repository(grant)}/${target}`)
    t.is(answer.status, 200)
    t.is(answer.headers['content-type'], mediaType)
    t.is(answer.headers['docker-content-digest'], document.digest)
    t.deepEqual(answer.body, bytes)
    const head = await fixture.call('HEAD', `${repository(grant)}/${target}`)
    t.is(head.headers['content-length'], String(bytes.length))
    t.is((await fixture.call('GET', `${repository(other)}/${target}`)).code, 'MANIFEST_UNKNOWN')
  }
  const blob = await fixture.call('GET', `${repository(grant)}/blobs/${document.digest}`, {
    headers: { range: 'bytes=2-6' },
  })
  t.is(blob.body.toString(), bytes.subarray(2, 7).toString())
})

test('a wrong, an ended and an expired capability are answered alike, and never ask for a login', async (t) => {
  const fixture = shared
  const digest = await fixture.put(freshBytes(10).bytes)
  const ended = fixture.reader()
  ended[Symbol.dispose]()
  using expired = fixture.registry.grant({
    scope: otherScope,
    right: 'write',
    lifetimeMs: 0,
  })
  const capabilities = ['0'.repeat(40), 'x', ended.capability, expired.capability]
  for (const capability of capabilities) {
    for (const [method, rest] of [
      ['GET', `blobs/${digest}`],
      ['GET', 'blobs/nonsense'],
      ['GET', 'manifests/record'],
      ['POST', 'blobs/uploads/'],
      ['PATCH', 'blobs/uploads/1'],
      ['PUT', 'manifests/record'],
      ['DELETE', `blobs/${digest}`],
    ] as const) {
      const answer = await fixture.call(method, `/v2/${capability}/cache/${rest}`)
      t.is(answer.status, 404, `${method} ${rest}`)
      t.is(answer.code, 'NAME_UNKNOWN')
      t.is(answer.headers['www-authenticate'], undefined)
    }
  }
})

test('a grant expires by itself', async (t) => {
  const fixture = shared
  const digest = await fixture.put(freshBytes(10).bytes)
  const lifetimeMs = 400
  const issuedAtMs = performance.now()
  using grant = fixture.registry.grant({ scope, right: 'read', lifetimeMs })
  const target = `${repository(grant)}/blobs/${digest}`
  let status = 200
  for (let askedAtMs = issuedAtMs; status === 200 && askedAtMs < issuedAtMs + 10_000; ) {
    askedAtMs = performance.now()
    status = (await fixture.call('HEAD', target)).status
    // However busy the machine is: what was answered in time was granted.
    if (performance.now() < issuedAtMs + lifetimeMs) t.is(status, 200)
    else if (askedAtMs >= issuedAtMs + lifetimeMs) t.is(status, 404)
  }
  t.is(status, 404)
})

test('a scope does not see what another one holds', async (t) => {
  const fixture = shared
  const digest = await fixture.put(freshBytes(10).bytes, otherScope)
  using grant = fixture.reader()
  const answer = await fixture.call('GET', `${repository(grant)}/blobs/${digest}`)
  t.is(answer.status, 404)
  t.is(answer.code, 'BLOB_UNKNOWN')
})

test('what a reader asks for in vain is remembered; what a writer asks for is not', async (t) => {
  const fixture = shared
  const missing = freshBytes(10).digest
  using reader = fixture.reader()
  using writer = fixture.writer()
  t.is((await fixture.call('HEAD', `${repository(reader)}/blobs/${missing}`)).status, 404)
  t.is((await fixture.call('HEAD', `${repository(writer)}/blobs/${missing}`)).status, 404)
  t.deepEqual([...reader.undeliverable], [missing])
  t.is(writer.undeliverable.size, 0)
  t.is(
    (await fixture.call('GET', `${repository(reader)}/blobs/sha256:short`)).code,
    'DIGEST_INVALID',
  )
})

test('a blob that ends early breaks the connection and is remembered', async (t) => {
  const fixture = shared
  const { bytes, digest } = freshBytes(20 * mib)
  await fixture.put(bytes)
  using grant = fixture.reader()
  // A client that reads slowly, so that the file is cut while it is being sent.
  const { incoming, ended } = await slowGet(
    fixture.registry.port,
    `${repository(grant)}/blobs/${digest}`,
  )
  await truncate(await blobFile(fixture.folder, digest), 2 * mib)
  incoming.resume()
  t.is(await ended, 'broken off')
  t.deepEqual([...grant.undeliverable], [digest])
})

test('a blob that cannot be opened is remembered, and the registry lives on', async (t) => {
  const digest = await shared.put(freshBytes(10).bytes)
  await using registry = await createRegistry({
    store: { ...shared.store, open: () => Promise.reject(new Error('input/output error')) },
    log: silentLogger,
    contentFile: () => undefined,
  })
  using grant = registry.grant({ scope, right: 'read', lifetimeMs: 60_000 })
  const answer = await call(registry.port, 'GET', `${repository(grant)}/blobs/${digest}`)
  t.is(answer.status, 500)
  t.regex(answer.body.toString(), /input\/output error/)
  t.deepEqual([...grant.undeliverable], [digest])
  t.is((await call(registry.port, 'GET', '/v2/')).status, 200)
})

test('a client that goes away in the middle of a blob is no failure of ours', async (t) => {
  const fixture = shared
  const { bytes, digest } = freshBytes(20 * mib)
  await fixture.put(bytes)
  using grant = fixture.reader()
  const target = `${repository(grant)}/blobs/${digest}`
  for (let round = 0; round < 5; round += 1) {
    const { incoming, ended } = await slowGet(fixture.registry.port, target)
    incoming.destroy()
    t.is(await ended, 'broken off')
  }
  t.is((await fixture.call('GET', target)).body.length, bytes.length)
  t.is(grant.undeliverable.size, 0)
})

test('a client that stalls is cut off, and others are served meanwhile', async (t) => {
  await using fixture = await openFixture({ idleMs: 3000 })
  const { bytes, digest } = freshBytes(20 * mib)
  await fixture.put(bytes)
  using grant = fixture.reader()
  const target = `${repository(grant)}/blobs/${digest}`
  const { incoming, ended, clientPort } = await slowGet(fixture.registry.port, target)
  t.is((await fixture.call('GET', target)).body.length, bytes.length)
  await disconnected(fixture.registry.port, clientPort)
  incoming.resume()
  t.is(await ended, 'broken off')
  t.is(grant.undeliverable.size, 0)
})

test('a read that has begun may finish after its grant has ended', async (t) => {
  const fixture = shared
  const { bytes, digest } = freshBytes(20 * mib)
  await fixture.put(bytes)
  const grant = fixture.reader()
  const target = `${repository(grant)}/blobs/${digest}`
  const { incoming } = await slowGet(fixture.registry.port, target)
  grant[Symbol.dispose]()
  let size = 0
  for await (const chunk of incoming) size += (chunk as Buffer).length
  t.is(size, bytes.length)
})

test.serial('200 MB go out with a bounded amount of memory', async (t) => {
  const piece = freshBytes(8 * mib).bytes
  const bytes = Buffer.concat(Array.from({ length: 25 }, () => piece))
  const digest = await shared.put(bytes)
  using stalled = shared.reader()
  using grant = shared.reader()
  // Who reads nothing is sent no more than the buffers between us hold.
  const slow = await slowGet(shared.registry.port, `${repository(stalled)}/blobs/${digest}`)
  const { incoming } = await slowGet(shared.registry.port, `${repository(grant)}/blobs/${digest}`)
  const before = process.memoryUsage().arrayBuffers
  let most = 0
  let size = 0
  for await (const chunk of incoming) {
    size += (chunk as Buffer).length
    most = Math.max(most, process.memoryUsage().arrayBuffers - before)
  }
  t.is(size, bytes.length)
  t.true(stalled.bytesRead < 32 * mib, `${stalled.bytesRead} bytes sent to nobody`)
  // With what the collector has not yet looked at.
  t.true(most < bytes.length / 2, `${most} bytes of buffers`)
  slow.incoming.destroy()
})

test('rubbish on the wire is answered or cut, and harms nobody', async (t) => {
  const fixture = shared
  for (const text of [
    '\0\0\0',
    'GET\r\n\r\n',
    'GET /v2/ HTTP/9.9\r\n\r\n',
    'GET http://x/v2/ HTTP/1.1\r\nhost: x\r\n\r\n',
  ]) {
    const socket = createConnection(fixture.registry.port, '127.0.0.1')
    socket.end(text)
    await once(socket.resume(), 'close')
  }
  t.is((await fixture.call('GET', '/v2/')).status, 200)
})

test('a port that is taken is named, with what to do', async (t) => {
  const fixture = shared
  const error = await t.throwsAsync(openFixture({ port: fixture.registry.port }))
  t.regex(error?.message ?? '', /127\.0\.0\.1:\d+/)
  t.like(error, { code: 'environment' })
})

/** Starts a GET and reads nothing of its body. */
async function slowGet(port: number, target: string) {
  const sent = request({ host: '127.0.0.1', port, path: target, agent: false })
  sent.on('error', () => {})
  sent.end()
  const [incoming] = (await once(sent, 'response')) as [IncomingMessage]
  incoming.on('error', () => {})
  const ended = new Promise<'whole' | 'broken off'>((resolve) => {
    incoming.once('close', () => resolve(incoming.complete ? 'whole' : 'broken off'))
  })
  return { incoming, ended, clientPort: sent.socket?.localPort ?? 0 }
}

/** Where the store keeps a blob: its own secret, known here to break it on purpose. */
async function blobFile(folder: string, digest: Digest): Promise<string> {
  for await (const file of glob(`store/**/${digestHex(digest)}`, { cwd: folder })) {
    return path.join(folder, file)
  }
  throw new Error(`the store has no file for ${digest}`)
}

/**
 * Waits until the server has given a connection up. A client that reads nothing cannot see that, the kernel
 * can: /proc/net/tcp, where state 01 is an established connection.
 */
async function disconnected(serverPort: number, clientPort: number): Promise<void> {
  const hex = (port: number) => port.toString(16).toUpperCase().padStart(4, '0')
  const line = new RegExp(`:${hex(serverPort)} [0-9A-F]+:${hex(clientPort)} 01 `)
  const deadline = performance.now() + 20_000
  while (line.test(await readFile('/proc/net/tcp', 'utf8'))) {
    if (performance.now() > deadline) throw new Error('the server keeps the connection')
    await delay(20)
  }
}
