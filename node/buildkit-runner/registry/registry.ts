/** The HTTP server: finds the grant of each request, hands it to its handler, and answers what is thrown. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describeError, hasErrno, toHearthError } from '../../../core/errors.ts'
import { createHolds } from './adoption.ts'
import { removeBlob, serveBlob } from './blobs.ts'
import { clientGoneSignal } from './bodies.ts'
import { listReferrers, listTags } from './discovery.ts'
import type { Exchange, Handler } from './exchange.ts'
import { createGrantTable } from './grants.ts'
import type { Registry, RegistryDeps } from './index.ts'
import { removeManifest, serveManifest, takeManifest } from './manifests.ts'
import { methodUnsupported, nameUnknown, refusalOf, refuse } from './oci-errors.ts'
import { createPromises } from './promises.ts'
import { continuePush, startPush } from './push.ts'
import { parseTarget, type Route } from './routes.ts'
import { createUploads } from './uploads.ts'

export interface RegistryOptions {
  /**
   * Whether it listens on this machine's own 127.0.0.1, as tests and tools want it. Default true. A node
   * says false: its registry is only where `serve` is told.
   */
  listen?: boolean
  /** On 127.0.0.1; 0 (the default) is any free one. */
  port?: number
  /** A connection on which nothing moves for so long, in the middle of a request, is cut. Default 5 minutes. */
  idleMs?: number
  /**
   * A connection that brought a body which nobody read is kept so long for the next. BuildKit drops idle ones
   * after 2 minutes at the latest. Default 2 minutes.
   */
  keepAliveMs?: number
  /** An upload that nobody goes on with for so long is thrown away. Default 10 minutes. */
  uploadIdleMs?: number
  /** Uploads that one grant may have open at once. Default 64. */
  uploadsMax?: number
}

/** Also how long a connection may stay that nothing was ever asked on: Go opens some to spare. */
const headersMs = 15_000
const headersCheckMs = 5_000

/** What each kind of route can do; the methods that write need a grant to write. */
const methodsOf: Record<Exclude<Route['type'], 'unknown'>, Record<string, 'read' | 'write'>> = {
  ping: { GET: 'read', HEAD: 'read' },
  blob: { GET: 'read', HEAD: 'read', DELETE: 'write' },
  manifest: { GET: 'read', HEAD: 'read', PUT: 'write', DELETE: 'write' },
  uploads: { POST: 'write' },
  upload: { GET: 'write', HEAD: 'write', PATCH: 'write', PUT: 'write', DELETE: 'write' },
  tags: { GET: 'read', HEAD: 'read' },
  referrers: { GET: 'read', HEAD: 'read' },
}

/** @throws HearthError `environment` when the port is taken. */
export async function createRegistry(
  deps: RegistryDeps,
  options: RegistryOptions = {},
): Promise<Registry> {
  const {
    idleMs = 300_000,
    keepAliveMs = 120_000,
    uploadIdleMs = 600_000,
    uploadsMax = 64,
  } = options
  const closing = new AbortController()
  const grants = createGrantTable(deps)
  const uploads = createUploads(deps, { uploadsMax, idleMs: uploadIdleMs })
  const holds = createHolds(deps, { signal: closing.signal })
  const promises = createPromises(deps, { waitMsMax: idleMs * 0.8 })
  const pushDeps = { ...deps, holds, promises, uploads, grants }
  const blobDeps = { ...deps, holds, promises }

  function handlerOf(route: Route): Handler | undefined {
    switch (route.type) {
      case 'blob':
        return (exchange) =>
          exchange.method === 'DELETE'
            ? removeBlob(deps, exchange, route.digest)
            : serveBlob(blobDeps, exchange, route.digest)
      case 'uploads':
        return (exchange) => startPush(pushDeps, exchange)
      case 'upload':
        return (exchange) => continuePush(pushDeps, exchange, route.id)
      case 'manifest':
        return (exchange) => handleManifest(deps, exchange, route.reference)
      case 'tags':
        return (exchange) => listTags(deps.manifests, exchange)
      case 'referrers':
        return (exchange) => listReferrers(deps.manifests, exchange, route.digest)
      default:
        return undefined
    }
  }

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const method = request.method ?? 'GET'
    const { route, query } = parseTarget(request.url ?? '/')
    if (route.type === 'unknown') return refuse(response, nameUnknown)
    if (route.type === 'ping') return ping(method, response)
    const { mirror } = deps
    if (mirror !== undefined && route.repository.capability === mirror.capability) {
      return mirror.serve({ request, response, method, route, signal: clientGoneSignal(response) })
    }
    const grant = grants.find(route.repository.capability)
    if (grant === undefined) return refuse(response, nameUnknown)
    const needed = methodsOf[route.type][method]
    if (needed === undefined) {
      return refuse(response, methodUnsupported(Object.keys(methodsOf[route.type])))
    }
    const handler = handlerOf(route)
    if (handler === undefined || (needed === 'write' && grant.right !== 'write')) {
      return refuse(response, nameUnknown)
    }
    const { repository } = route
    const signal = clientGoneSignal(response)
    const exchange: Exchange = { request, response, method, query, repository, grant, signal }
    await handler(exchange)
  }

  const inFlight = new Set<Promise<void>>()

  function take(request: IncomingMessage, response: ServerResponse): void {
    // A client that goes away in mid-body is an event of its exchange, never one of the process.
    request.on('error', () => {})
    response.on('error', () => {})
    // Older clients take a registry without it for one of version 1.
    response.setHeader('docker-distribution-api-version', 'registry/2.0')
    // BuildKit makes a pool of connections for every solve and keeps each for 30 s after its last use: dozens of
    // files open for nothing. Told so in the answer, it never meets a connection that we have just closed.
    // Not while a body is on its way: closed before it has come, it would take the answer along.
    const closeAfter = (): void => {
      if (!response.headersSent) response.setHeader('connection', 'close')
    }
    if (hasBody(request)) request.once('end', closeAfter)
    else closeAfter()
    const work = serve(request, response)
      .catch((error: unknown) => answerFailure(error, request, response))
      .finally(() => {
        inFlight.delete(work)
        // What a handler left unread, Node would leave on the wire: the next request waits behind it.
        request.resume()
      })
    inFlight.add(work)
  }

  function answerFailure(error: unknown, request: IncomingMessage, response: ServerResponse): void {
    if (response.destroyed || request.socket.destroyed) {
      deps.log.debug({ error: describeError(error) }, 'a client of the registry went away')
      return
    }
    const refusal = refusalOf(error)
    // The path holds a capability: it stays out of the log.
    const fields = { method: request.method, error: describeError(error) }
    if (refusal.status >= 500) deps.log.error(fields, 'the registry could not serve a request')
    else deps.log.debug(fields, 'the registry refused a request')
    if (response.headersSent) response.destroy()
    else refuse(response, refusal)
  }

  function makeServer(): Server {
    const server = createServer(
      // A whole upload may take as long as it moves: `timeout` below watches that it does.
      {
        keepAliveTimeout: keepAliveMs,
        headersTimeout: headersMs,
        connectionsCheckingInterval: headersCheckMs,
        requestTimeout: 0,
      },
      take,
    )
    server.timeout = idleMs
    server.on('clientError', (_error, socket) => {
      if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n')
      else socket.destroy()
    })
    return server
  }

  const servers = new Set<Server>()

  function open(server: Server): void {
    server.on('error', (error) => deps.log.error({ error }, 'the loopback registry failed'))
    servers.add(server)
  }

  async function close(server: Server): Promise<void> {
    if (!servers.delete(server)) return
    const closed = once(server, 'close')
    server.close()
    server.closeAllConnections()
    await closed
  }

  let port = 0
  if (options.listen !== false) {
    const server = makeServer()
    port = await listen(server, options.port ?? 0)
    open(server)
  }
  deps.log.debug({ port }, 'the loopback registry is ready')

  return {
    port,
    serve(listener) {
      const server = makeServer()
      open(server)
      server.listen(listener)
      return { [Symbol.dispose]: () => void close(server) }
    },
    grant(request) {
      const isKept = request.tags === 'of the scope'
      assert(!isKept || deps.manifests !== undefined, 'tags are to be kept, and there is no table')
      return grants.issue(request)
    },
    async [Symbol.asyncDispose]() {
      closing.abort()
      grants[Symbol.dispose]()
      await Promise.all([...servers].map(close))
      await Promise.all(inFlight)
      await uploads[Symbol.asyncDispose]()
    },
  }
}

function handleManifest(deps: RegistryDeps, exchange: Exchange, reference: string): Promise<void> {
  switch (exchange.method) {
    case 'PUT':
      return takeManifest(deps, exchange, reference)
    case 'DELETE':
      return removeManifest(deps, exchange, reference)
    default:
      return serveManifest(deps, exchange, reference)
  }
}

function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
}

function ping(method: string, response: ServerResponse): void {
  const allowed = Object.keys(methodsOf.ping)
  if (!allowed.includes(method)) {
    refuse(response, methodUnsupported(allowed))
    return
  }
  response.writeHead(200, {
    'content-type': 'application/json',
    'content-length': 2,
  })
  response.end(method === 'HEAD' ? undefined : '{}')
}

async function listen(server: Server, port: number): Promise<number> {
  try {
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
  } catch (error) {
    const doing = hasErrno(error, 'EADDRINUSE')
      ? `listen on 127.0.0.1:${port}, which another program uses`
      : `listen on 127.0.0.1:${port}`
    throw toHearthError(error, doing)
  }
  return (server.address() as AddressInfo).port
}
