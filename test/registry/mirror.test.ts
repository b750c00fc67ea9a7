/** Base images through the mirror: real BuildKits of two scopes, and a registry that wants tokens. */
import { once } from 'node:events'
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { createServer, request as send } from 'node:http'
import type { AddressInfo } from 'node:net'
import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import type { Digest } from '../../core/digest.ts'
import { silentLogger } from '../../core/log.ts'
import { findProgram } from '../../core/programs.ts'
import { makeScope, type Scope, scopeId } from '../../core/scope.ts'
import { createDaemonPool } from '../../node/buildkit-runner/daemon/index.ts'
import {
  createMirror,
  createRegistry,
  openManifestTable,
} from '../../node/buildkit-runner/registry/index.ts'
import { mirrorScope } from '../../node/buildkit-runner/registry/mirror/index.ts'
import { openCacheStore } from '../../node/cache-store/index.ts'
import { createTemporaryFolder, runTimed, startUpstreamRegistry } from '../harness/index.ts'
import { type ImageLayout, writeImageLayouts } from './image-layouts.ts'

const credential = Buffer.from('ada:secret').toString('base64')

/**
 * Stands before a registry: everybody gets a token for public repositories, ada for private ones too.
 * Nothing is passed on without one.
 */
async function startTokenFront(upstream: string) {
  const asked: string[] = []
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? '/', 'http://front')
    if (url.pathname === '/token') {
      if (request.method !== 'GET') return response.writeHead(405).end()
      const name = /^repository:(.*):pull$/.exec(url.searchParams.get('scope') ?? '')?.[1] ?? ''
      const isAda = request.headers.authorization === `Basic ${credential}`
      if (name.startsWith('private') && !isAda) return response.writeHead(401).end()
      return response.end(JSON.stringify({ token: Buffer.from(name).toString('base64url') }))
    }
    const name = /^\/v2\/(.+)\/(?:manifests|blobs)\//.exec(url.pathname)?.[1] ?? ''
    const token = Buffer.from(name).toString('base64url')
    if (request.headers.authorization !== `Bearer ${token}`) {
      const { port } = server.address() as AddressInfo
      response.setHeader(
        'www-authenticate',
        `Bearer realm="http://127.0.0.1:${port}/token",service="front",scope="repository:${name}:pull"`,
      )
      return response.writeHead(401).end()
    }
    asked.push(`${request.method} ${url.pathname}`)
    const { authorization: _, ...headers } = request.headers
    const passed = send(
      `http://${upstream}${request.url}`,
      { method: request.method ?? 'GET', headers },
      (answer) => {
        response.writeHead(answer.statusCode ?? 500, answer.headers)
        answer.pipe(response)
      },
    )
    passed.on('error', () => response.destroy())
    return passed.end()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    asked,
    port: (server.address() as AddressInfo).port,
    async [Symbol.asyncDispose]() {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
}

async function openNode(t: ExecutionContext) {
  await using stack = new AsyncDisposableStack()
  const log = silentLogger
  const folder = stack.use(await createTemporaryFolder('mirror')).path
  const registry = stack.use(await startUpstreamRegistry())
  const front = stack.use(await startTokenFront(registry.host))
  const host = `127.0.0.1:${front.port}`
  const store = stack.use(await openCacheStore({ folder: path.join(folder, 'store'), log }))
  const manifests = stack.use(
    await openManifestTable({ store, log }, { folder: path.join(folder, 'manifests') }),
  )
  const mirror = stack.use(
    await createMirror(
      { store, manifests, log },
      { folder: path.join(folder, 'mirror'), upstreams: [host] },
    ),
  )
  const ours = stack.use(
    await createRegistry(
      { store, manifests, mirror, log, contentFile: () => undefined },
      { listen: false },
    ),
  )
  const daemons = stack.use(
    await createDaemonPool(
      { log },
      {
        folder: path.join(folder, 'buildkit'),
        registry: {
          host: 'hearth.cache',
          port: 5000,
          serve: (listener) => ours.serve(listener),
          mirrors: mirror.paths,
        },
        // What the mirror refuses, BuildKit asks the registry itself.
        reach: [front.port],
      },
    ),
  )
  const layouts = path.join(folder, 'layouts')
  await mkdir(layouts)
  const images = await writeImageLayouts(layouts, 12)
  const config = path.join(folder, 'docker')
  await mkdir(config)
  await writeFile(
    path.join(config, 'config.json'),
    JSON.stringify({ auths: { [host]: { auth: credential } } }),
  )
  let builds = 0
  const held = stack.move()
  return {
    front,
    host,
    store,
    daemons,
    images,
    async push(image: ImageLayout, name: string) {
      const target = `${registry.host}/${name}`
      const args = ['push', '--insecure', image.folder, target]
      const pushed = await runTimed(await findProgram('crane'), args)
      t.is(pushed.exitCode, 0, pushed.stderr)
    },
    /** Builds on an image. @returns the files of the result. */
    async build(scope: Scope, image: string): Promise<string[]> {
      builds += 1
      const context = path.join(folder, `context-${builds}`)
      const result = path.join(folder, `result-${builds}`)
      await mkdir(context)
      await writeFile(path.join(context, 'marker'), 'marker')
      await writeFile(path.join(context, 'Dockerfile'), `FROM ${host}/${image}\nCOPY marker /\n`)
      using daemon = await daemons.acquire(scope, { signal: AbortSignal.timeout(60_000) })
      const built = await runTimed(
        await findProgram('buildctl'),
        [
          ...['--addr', `unix://${daemon.socket}`, 'build', '--frontend', 'dockerfile.v0'],
          ...['--local', `context=${context}`, '--local', `dockerfile=${context}`],
          ...['--output', `type=local,dest=${result}`],
        ],
        { env: { ...process.env, DOCKER_CONFIG: config } },
      )
      t.is(built.exitCode, 0, built.stderr)
      return (await readdir(result)).sort()
    },
    blobsAsked: () => front.asked.filter((each) => each.includes('/blobs/')),
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  }
}

const layersOf = (image: ImageLayout): Digest[] =>
  [...image.contents.keys()].filter((digest) => digest !== image.root.digest) as Digest[]

/** What an image of image-layouts.ts has as its top layer's file. */
const ownFile = (number: number) => `own-${number}-a`

test('a base image is fetched once for all scopes, outlives BuildKit, and follows its tag', async (t) => {
  await using node = await openNode(t)
  const [first, second] = [node.images[0], node.images[5]]
  if (first === undefined || second === undefined) throw new Error('twelve were made')
  await node.push(first, 'library/base:latest')
  const [app, other] = [makeScope('app', 'main'), makeScope('other', 'main')]

  t.true((await node.build(app, 'library/base:latest')).includes(ownFile(0)))
  t.true((await node.build(other, 'library/base:latest')).includes(ownFile(0)))
  const wanted = layersOf(first).map((digest) => `GET /v2/library/base/blobs/${digest}`)
  t.deepEqual(node.blobsAsked().sort(), wanted.sort())

  node.front.asked.length = 0
  await node.daemons.reset(app)
  t.true((await node.build(app, 'library/base:latest')).includes(ownFile(0)))
  t.deepEqual(node.front.asked, ['HEAD /v2/library/base/manifests/latest'])

  await node.push(second, 'library/base:latest')
  for (const scope of [app, other]) {
    const files = await node.build(scope, 'library/base:latest')
    t.true(files.includes(ownFile(5)))
    t.false(files.includes(ownFile(0)))
  }
  t.deepEqual([...new Set(node.blobsAsked())].length, node.blobsAsked().length)
})

test('a private image is pulled by its owner past the mirror, and nothing of it is kept there', async (t) => {
  await using node = await openNode(t)
  const image = node.images[1]
  if (image === undefined) throw new Error('twelve were made')
  await node.push(image, 'private/app:latest')
  const app = makeScope('app', 'main')
  t.true((await node.build(app, 'private/app:latest')).includes(ownFile(1)))
  t.deepEqual(
    node.blobsAsked().sort(),
    layersOf(image)
      .map((digest) => `GET /v2/private/app/blobs/${digest}`)
      .sort(),
  )
  for (const digest of image.contents.keys()) {
    t.is(node.store.stat(mirrorScope, digest as Digest), undefined)
  }
  t.false(node.store.usage().scopes.has(scopeId(mirrorScope)))
})
