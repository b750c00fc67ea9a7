/**
 * The giving end of the direct road: ranges of blob files over mutual TLS. A caller is a node of the same
 * coordinator by its certificate, and a member now, or it is not answered at all.
 */
import { open } from 'node:fs/promises'
import {
  createServer as createHttpServer,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http'
import type { AddressInfo } from 'node:net'
import tls from 'node:tls'
import { describeError, hasErrno, toHearthError } from '../../core/errors.ts'
import type { TlsIdentity } from '../../core/grpc-server.ts'
import { identityOfCertificate } from '../../core/identity.ts'
import { type BlockPool, blockBytes } from './block-pool.ts'
import { type NamedBlob, parseBlobPath, parseRange } from './bulk-paths.ts'
import type { UploadPace } from './upload-pace.ts'

export interface BulkServer extends AsyncDisposable {
  readonly port: number
  setMembers(nodeIds: ReadonlySet<string>): void
  replaceIdentity(identity: TlsIdentity): void
}

export interface BulkServerDeps {
  blocks: BlockPool
  pace: UploadPace
  find(blob: NamedBlob): Promise<{ file: string; size: number } | undefined>
  /** One line about a caller that was turned away. */
  onRefused(message: string): void
}

const handshakeMs = 5_000
/** A caller that takes nothing for this long is dropped. */
const idleMs = 30_000
/** Of all callers together; each has one or two. */
const connectionsMax = 1_000

/** @throws HearthError `environment` when the address cannot be listened on. */
export async function startBulkServer(
  deps: BulkServerDeps,
  options: { host: string; port: number; identity: TlsIdentity },
): Promise<BulkServer> {
  let members: ReadonlySet<string> = new Set()
  const sockets = new Map<tls.TLSSocket, string>()
  const http = createHttpServer({ keepAliveTimeout: 10 * 60_000, requestTimeout: 0 })
  http.on('request', (request, response) => {
    void serveRange(deps, request, response).catch((error) => {
      deps.onRefused(describeError(error))
      response.destroy()
    })
  })
  http.on('clientError', (_error, socket) => socket.destroy())

  const server = tls.createServer({
    minVersion: 'TLSv1.3',
    requestCert: true,
    rejectUnauthorized: true,
    handshakeTimeout: handshakeMs,
    ...secureContextOf(options.identity),
  })
  server.maxConnections = connectionsMax
  server.on('secureConnection', (socket) => {
    socket.on('error', () => {}) // 'close' follows.
    const nodeId = callerOf(socket)
    if (nodeId === undefined || !members.has(nodeId)) {
      deps.onRefused(`${nodeId ?? 'somebody without a node certificate'} is no member`)
      socket.destroy()
      return
    }
    sockets.set(socket, nodeId)
    socket.on('close', () => sockets.delete(socket))
    socket.setTimeout(idleMs, () => socket.destroy())
    http.emit('connection', socket)
  })
  server.on('tlsClientError', () => {})

  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) =>
      reject(toHearthError(error, `listen on ${options.host}:${options.port}`)),
    )
    server.listen(options.port, options.host, resolve)
  })
  server.on('error', (error) => deps.onRefused(describeError(error)))

  return {
    port: (server.address() as AddressInfo).port,
    setMembers(nodeIds) {
      members = nodeIds
      for (const [socket, nodeId] of sockets) if (!members.has(nodeId)) socket.destroy()
    },
    replaceIdentity: (identity) => server.setSecureContext(secureContextOf(identity)),
    async [Symbol.asyncDispose]() {
      const closed = new Promise((resolve) => server.close(resolve))
      for (const socket of sockets.keys()) socket.destroy()
      await closed
    },
  }
}

function callerOf(socket: tls.TLSSocket): string | undefined {
  try {
    const identity = identityOfCertificate(socket.getPeerCertificate().subjectaltname)
    return identity.type === 'node' ? identity.nodeId : undefined
  } catch {
    return undefined
  }
}

async function serveRange(
  deps: BulkServerDeps,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const refuse = (status: number): void => {
    response.writeHead(status, { 'content-length': 0 }).end()
  }
  const blob = parseBlobPath(request.url ?? '')
  const range = parseRange(request.headers.range)
  if (request.method !== 'GET' || blob === undefined || range === undefined) return refuse(400)
  const found = await deps.find(blob)
  if (found === undefined) return refuse(404)
  if (range.end > found.size) return refuse(416)
  const file = await open(found.file, 'r').catch((error: unknown) => {
    if (hasErrno(error, 'ENOENT')) return undefined
    throw error
  })
  if (file === undefined) return refuse(404)
  // Two blocks in turn: one is sent while the other is read.
  const blocks = [deps.blocks.take(), deps.blocks.take()] as const
  const sent: Promise<void>[] = [Promise.resolve(), Promise.resolve()]
  const gone = whenGone(response)
  try {
    response.writeHead(206, {
      'content-type': 'application/octet-stream',
      'content-length': range.end - range.start,
      'content-range': `bytes ${range.start}-${range.end - 1}/${found.size}`,
    })
    let turn: 0 | 1 = 0
    for (let position = range.start; position < range.end; ) {
      await sent[turn]
      const wanted = Math.min(blockBytes, range.end - position)
      const { bytesRead } = await file.read(blocks[turn], 0, wanted, position)
      // Shorter than it was: the length is promised, so only breaking off tells the truth.
      if (bytesRead === 0) return void response.destroy()
      await deps.pace.wait(bytesRead)
      sent[turn] = write(response, blocks[turn].subarray(0, bytesRead), gone)
      position += bytesRead
      turn = turn === 0 ? 1 : 0
    }
    await Promise.all(sent)
    response.end()
  } finally {
    await Promise.allSettled(sent)
    for (const block of blocks) deps.blocks.give(block)
    await file.close()
  }
}

/** @param gone rejects when the caller has: the callback of a write may then never come. */
function write(response: ServerResponse, bytes: Buffer, gone: Promise<never>): Promise<void> {
  const written = new Promise<void>((resolve, reject) => {
    response.write(bytes, (error) => (error ? reject(error) : resolve()))
  })
  const settled = Promise.race([written, gone])
  settled.catch(() => {}) // Awaited a turn later.
  return settled
}

function whenGone(response: ServerResponse): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>()
  response.once('close', () => reject(new Error('the caller has gone')))
  promise.catch(() => {})
  return promise
}

function secureContextOf(identity: TlsIdentity): { cert: string; key: string; ca: string } {
  return { cert: identity.certificatePem, key: identity.privateKeyPem, ca: identity.caPem }
}
