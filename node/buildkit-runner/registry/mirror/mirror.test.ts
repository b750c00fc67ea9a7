import { once } from 'node:events'
import { readdir } from 'node:fs/promises'
import { createServer, request as send } from 'node:http'
import type { AddressInfo } from 'node:net'
import path from 'node:path'
import test from 'ava'
import { type Digest, digestOf } from '../../../../core/digest.ts'
import { silentLogger } from '../../../../core/log.ts'
import { createRegistry } from '../index.ts'
import { openManifestTable } from '../manifest-table.ts'
import { call, freshBytes, openFixture, scope } from '../temporary-registry.fixture.ts'
import { createMirror, type MirrorOptions, mirrorScope } from './index.ts'
import { sendBytes, startFakeUpstream } from './upstream.fixture.ts'

async function openMirror(options: Partial<MirrorOptions> = {}) {
  await using stack = new AsyncDisposableStack()
  const upstream = stack.use(await startFakeUpstream())
  // Its store and folder; its registry knows no mirror.
  const { store, folder } = stack.use(await openFixture())
  const log = silentLogger
  const manifests = stack.use(
    await openManifestTable({ store, log }, { folder: path.join(folder, 'table') }),
  )
  const downloads = path.join(folder, 'downloads')
  const mirror = stack.use(
    await createMirror(
      { store, manifests, log },
      { upstreams: [upstream.host], folder: downloads, ...options },
    ),
  )
  const registry = stack.use(
    await createRegistry({ store, log, manifests, mirror, contentFile: () => undefined }),
  )
  const held = stack.move()
  const base = `/v2/${mirror.paths.get(upstream.host)}`
  return {
    upstream,
    store,
    downloads,
    port: registry.port,
    base,
    call: (method: string, below: string, headers: Record<string, string> = {}) =>
      call(registry.port, method, `${base}/${below}`, { headers }),
    /** How often the registry was asked for a path that ends so. */
    times: (end: string) => upstream.asked.filter((each) => each.endsWith(end)).length,
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  }
}

test('an image is fetched once, by an anonymous token, and then its blobs come from here', async (t) => {
  await using fixture = await openMirror()
  const { bytes } = freshBytes(300_000)
  const image = fixture.upstream.addImage('library/base', 'latest', bytes)
  for (const time of ['first', 'second']) {
    const resolved = await fixture.call('HEAD', 'library/base/manifests/latest')
    t.is(resolved.status, 200, time)
    t.is(resolved.headers['docker-content-digest'], image.manifest)
    const manifest = await fixture.call('GET', `library/base/manifests/${image.manifest}`)
    t.is(digestOf(manifest.body), image.manifest)
    t.is(manifest.headers['content-type'], 'application/vnd.oci.image.manifest.v1+json')
    const layer = await fixture.call('GET', `library/base/blobs/${image.layer}`)
    t.true(layer.body.equals(bytes))
    t.is(layer.headers['docker-content-digest'], image.layer)
  }
  t.is(fixture.times(image.layer), 1)
  t.is(fixture.times(image.manifest), 1)
  t.is(fixture.times('/token'), 1)
  // The tag is asked for each time; the first time the registry wanted a token.
  t.is(fixture.times('manifests/latest'), 3)
  t.deepEqual(fixture.upstream.credentials, [])
  t.deepEqual(await readdir(fixture.downloads), [])
  t.not(fixture.store.stat(mirrorScope, image.layer), undefined)
  t.is(fixture.store.stat(scope, image.layer), undefined)
})

test('a tag that moves at its registry is what it is there, and without an answer it is nothing', async (t) => {
  await using fixture = await openMirror()
  const old = fixture.upstream.addImage('app', 'v1', freshBytes(10).bytes)
  const first = await fixture.call('GET', 'app/manifests/v1')
  t.is(digestOf(first.body), old.manifest)
  const young = fixture.upstream.addImage('app', 'v1', freshBytes(10).bytes)
  const second = await fixture.call('GET', 'app/manifests/v1')
  t.is(digestOf(second.body), young.manifest)
  const same = await fixture.call('HEAD', 'app/manifests/v1', {
    'if-none-match': `"${young.manifest}"`,
  })
  t.is(same.status, 304)

  for (const status of [404, 429, 500, 503]) {
    fixture.upstream.intercept = (_, response) => {
      response.writeHead(status).end()
      return true
    }
    t.is((await fixture.call('HEAD', 'app/manifests/v1')).status, 404, `for ${status}`)
  }
  // By digest nothing has to be asked.
  t.is((await fixture.call('GET', `app/manifests/${old.manifest}`)).status, 200)
})

test('what is not for everybody is left to BuildKit, and nothing of it is kept', async (t) => {
  await using fixture = await openMirror()
  const image = fixture.upstream.addImage('secret', 'latest', freshBytes(1000).bytes)
  fixture.upstream.secret.add('secret')
  for (const below of [
    'secret/manifests/latest',
    `secret/manifests/${image.manifest}`,
    `secret/blobs/${image.layer}`,
  ]) {
    for (const method of ['HEAD', 'GET']) {
      const answer = await fixture.call(method, below)
      t.is(answer.status, 404)
      t.is(answer.headers['www-authenticate'], undefined)
    }
  }
  // Its refusal is remembered: one request with a token, and one without.
  t.is(fixture.upstream.asked.filter((each) => each.includes('/secret/')).length, 2)
  t.is(fixture.store.usage().blobs, 0)

  const open = fixture.upstream.addImage('open', 'latest', freshBytes(1000).bytes)
  const authorization = 'Basic dXNlcjpwYXNz'
  for (const below of ['open/manifests/latest', `open/blobs/${open.layer}`]) {
    t.is((await fixture.call('GET', below, { authorization })).status, 404)
  }
  t.is(fixture.store.usage().blobs, 0)
  t.deepEqual(fixture.upstream.credentials, [])
})

test('nobody writes there, and other registries and capabilities do not exist', async (t) => {
  await using fixture = await openMirror()
  for (const [method, below] of [
    ['PUT', 'app/manifests/latest'],
    ['POST', 'app/blobs/uploads/'],
    ['DELETE', `app/blobs/${freshBytes(1).digest}`],
  ] as const) {
    t.is((await fixture.call(method, below)).status, 405)
  }
  const capability = fixture.base.split('/')[2]
  const { digest } = freshBytes(1)
  for (const target of [
    `/v2/${capability}/docker.io/library/busybox/manifests/latest`,
    `/v2/${capability}/169.254.169.254/latest/blobs/${digest}`,
    `/v2/${capability}/app/tags/list`,
    `${fixture.base.replace(/.$/, '0')}/app/manifests/latest`.replace(
      capability ?? '',
      '0'.repeat(40),
    ),
  ]) {
    t.is((await call(fixture.port, 'GET', target)).status, 404, target)
  }
  for (const reference of ['..%2f..%2ftoken', 'a%3fb', '%2e%2e', 'a%23']) {
    t.is((await fixture.call('GET', `app/manifests/${reference}`)).status, 404)
  }
  t.deepEqual(fixture.upstream.asked, [])
})

test('a registry cannot send us to the loopback, the metadata service or the private network', async (t) => {
  await using fixture = await openMirror()
  let reached = 0
  const inner = createServer((_, response) => {
    reached += 1
    response.end('secret')
  })
  inner.listen(0, '127.0.0.1')
  await once(inner, 'listening')
  t.teardown(() => inner.close())
  const { port } = inner.address() as AddressInfo
  const { digest } = freshBytes(1)
  for (const location of [
    `http://127.0.0.1:${port}/x`,
    `https://127.0.0.1:${port}/x`,
    `http://localhost:${port}/x`,
    'http://169.254.169.254/latest/meta-data/',
    'https://169.254.169.254/',
    'https://10.0.0.1/',
    'https://[::1]/',
    'https://[fd00:ec2::254]/',
    'https://localhost/',
    'https://2130706433/',
    'file:///etc/passwd',
  ]) {
    fixture.upstream.intercept = (_, response) => {
      response.writeHead(307, { location }).end()
      return true
    }
    const asked = fixture.upstream.asked.length
    t.is((await fixture.call('GET', `app/blobs/${digest}`)).status, 404, location)
    t.is(fixture.upstream.asked.length, asked + 1, `asked before ${location}`)
    // The same by the address where tokens are said to be.
    fixture.upstream.intercept = (_, response) => {
      response.setHeader('www-authenticate', `Bearer realm="${location}",service="x"`)
      response.writeHead(401).end()
      return true
    }
    const name = `app${asked}`
    t.is((await fixture.call('GET', `${name}/blobs/${digest}`)).status, 404, location)
  }
  t.is(reached, 0)
})

test('a redirect within the registry is followed, without end never', async (t) => {
  await using fixture = await openMirror()
  const { bytes, digest } = freshBytes(1000)
  fixture.upstream.intercept = (request, response) => {
    if (request.url === '/elsewhere') sendBytes(request, response, { bytes, digest })
    else response.writeHead(302, { location: '/elsewhere' }).end()
    return true
  }
  t.true((await fixture.call('GET', `app/blobs/${digest}`)).body.equals(bytes))
  const other = freshBytes(1000).digest
  fixture.upstream.intercept = (_, response) => {
    response.writeHead(302, { location: '/round' }).end()
    return true
  }
  const asked = fixture.upstream.asked.length
  t.is((await fixture.call('GET', `app/blobs/${other}`)).status, 404)
  t.true(fixture.upstream.asked.length - asked < 10)
})

test('many who want a blob at once share one fetch, ranges too, and see its bytes as they come', async (t) => {
  await using fixture = await openMirror()
  const { bytes, digest } = freshBytes(2_000_000)
  const half = bytes.length / 2
  const goOn = Promise.withResolvers<void>()
  fixture.upstream.intercept = (_, response) => {
    response.writeHead(200, { 'content-length': bytes.length })
    response.write(bytes.subarray(0, half))
    void goOn.promise.then(() => response.end(bytes.subarray(half)))
    return true
  }
  const target = `app/blobs/${digest}`
  // These bytes are here before the registry has sent the rest.
  const early = await fixture.call('GET', target, { range: 'bytes=10-999' })
  t.is(early.status, 206)
  t.true(early.body.equals(bytes.subarray(10, 1000)))
  const all = Promise.all([
    ...Array.from({ length: 8 }, () => fixture.call('GET', target)),
    fixture.call('GET', target, { range: `bytes=${bytes.length - 5}-` }),
  ])
  goOn.resolve()
  const answers = await all
  for (const { body } of answers.slice(0, 8)) t.true(body.equals(bytes))
  t.true(answers[8]?.body.equals(bytes.subarray(-5)))
  t.is(fixture.times(digest), 1)
})

test('a fetch that breaks off goes on where it was', async (t) => {
  await using fixture = await openMirror()
  const { bytes, digest } = freshBytes(500_000)
  const ranges: (string | undefined)[] = []
  fixture.upstream.intercept = (request, response) => {
    ranges.push(request.headers.range)
    if (ranges.length > 1) {
      sendBytes(request, response, { bytes, digest })
      return true
    }
    response.writeHead(200, { 'content-length': bytes.length })
    response.write(bytes.subarray(0, 200_000), () => response.destroy())
    return true
  }
  t.true((await fixture.call('GET', `app/blobs/${digest}`)).body.equals(bytes))
  t.is(ranges.length, 2)
  t.regex(ranges[1] ?? '', /^bytes=\d+-$/)
})

test('bytes that are not the blob never come whole, are not kept, and are not asked for again', async (t) => {
  await using fixture = await openMirror()
  const { bytes } = freshBytes(100_000)
  const wanted = freshBytes(100_000).digest
  fixture.upstream.intercept = (request, response) => {
    sendBytes(request, response, { bytes, digest: wanted })
    return true
  }
  await t.throwsAsync(fixture.call('GET', `app/blobs/${wanted}`), { code: 'ECONNRESET' })
  t.is(fixture.store.usage().blobs, 0)
  t.deepEqual(await readdir(fixture.downloads), [])
  t.is((await fixture.call('GET', `app/blobs/${wanted}`)).status, 404)
  t.is(fixture.times(wanted), 1)
  t.is((await fixture.call('GET', `app/manifests/${wanted}`)).status, 404)
})

test('what is too large, of unknown size, or too much at once is left to BuildKit', async (t) => {
  await using fixture = await openMirror({ blobBytesMax: 1000, fetchesMax: 1 })
  const large = fixture.upstream.addBlob(freshBytes(1001).bytes)
  t.is((await fixture.call('GET', `app/blobs/${large}`)).status, 404)
  const { bytes, digest } = freshBytes(100)
  fixture.upstream.intercept = (_, response) => {
    // Chunked: its size is not told.
    response.write(bytes)
    response.end()
    return true
  }
  t.is((await fixture.call('GET', `app/blobs/${digest}`)).status, 404)
  const asked = Promise.withResolvers<void>()
  const goOn = Promise.withResolvers<void>()
  fixture.upstream.intercept = (request, response) => {
    asked.resolve()
    void goOn.promise.then(() => sendBytes(request, response, { bytes, digest }))
    return true
  }
  const first = fixture.call('GET', `app/blobs/${digest}`)
  await asked.promise
  t.is((await fixture.call('GET', `app/blobs/${large}`)).status, 404)
  goOn.resolve()
  t.is((await first).status, 200)
  t.is(fixture.times(large), 2, 'the size was asked for once, with a token the second time')
})

test('a fetch that nobody follows any more is given up', async (t) => {
  await using fixture = await openMirror({ unreadMs: 1 })
  const { bytes, digest } = freshBytes(100_000)
  const gone = Promise.withResolvers<void>()
  fixture.upstream.intercept = (_, response) => {
    response.writeHead(200, { 'content-length': bytes.length })
    response.write(bytes.subarray(0, 50_000))
    response.once('close', () => gone.resolve())
    return true
  }
  const leaving = send({
    host: '127.0.0.1',
    port: fixture.port,
    path: `${fixture.base}/app/blobs/${digest}`,
  })
  leaving.on('error', () => {})
  leaving.end()
  const [response] = await once(leaving, 'response')
  await once(response, 'data')
  leaving.destroy()
  await gone.promise
  // And it can be had later.
  fixture.upstream.intercept = undefined
  fixture.upstream.addBlob(bytes)
  t.true((await fixture.call('GET', `app/blobs/${digest as Digest}`)).body.equals(bytes))
})

test('a registry that says nothing is left alone for a while, and BuildKit does not wait for it', async (t) => {
  await using fixture = await openMirror({ answerMs: 50 })
  fixture.upstream.intercept = () => true
  t.is((await fixture.call('HEAD', 'app/manifests/latest')).status, 404)
  t.is((await fixture.call('HEAD', 'app/manifests/latest')).status, 404)
  t.is((await fixture.call('HEAD', 'other/manifests/latest')).status, 404)
  t.is(fixture.upstream.asked.length, 1)
})

test('closing in the middle of a fetch ends it and leaves no file', async (t) => {
  const fixture = await openMirror()
  const { bytes, digest } = freshBytes(100_000)
  fixture.upstream.intercept = (_, response) => {
    response.writeHead(200, { 'content-length': bytes.length })
    response.write(bytes.subarray(0, 50_000))
    return true
  }
  const cut = t.throwsAsync(fixture.call('GET', `app/blobs/${digest}`))
  while (fixture.times(digest) === 0) await new Promise(setImmediate)
  await fixture[Symbol.asyncDispose]()
  await cut
})
