/**
 * Stands between a client and a buildkitd, passes every byte on, and keeps the definitions that BuildKit's
 * frontend answers with: what a node's build proxy gets to see.
 */
import { once } from 'node:events'
import http2 from 'node:http2'
import net from 'node:net'
import { SolveResponse } from '../../proto/generated/buildkit/gateway.ts'
import type { Definition } from '../../proto/generated/buildkit/ops.ts'
import { createFrameReader } from '../../proto/wire.ts'

export interface DefinitionTap extends AsyncDisposable {
  /** `tcp://…`, for buildx and buildctl. */
  readonly address: string
  /** The definitions of results since the last call. */
  take(): Definition[]
}

const solvePath = '/moby.buildkit.v1.frontend.LLBBridge/Solve'
const messageBytesMax = 64 * 1024 * 1024

/** @param socket path of buildkitd's socket. */
export async function startDefinitionTap(socket: string): Promise<DefinitionTap> {
  const definitions: Definition[] = []
  const sessions = new Set<http2.Http2Session>()

  const server = http2.createServer()
  server.on('session', (client) => {
    const upstream = http2.connect('http://localhost', {
      createConnection: () => net.connect(socket),
    })
    for (const session of [client, upstream]) {
      sessions.add(session)
      session.on('error', () => {})
      session.on('close', () => sessions.delete(session))
    }
    client.on('close', () => upstream.destroy())
    upstream.on('close', () => client.destroy())
    client.on('stream', (stream, headers) => relay(stream, repeated(headers), upstream))
  })

  function relay(
    stream: http2.ServerHttp2Stream,
    headers: http2.IncomingHttpHeaders,
    upstream: http2.ClientHttp2Session,
  ): void {
    const request = upstream.request(headers)
    const wanted = headers[':path'] === solvePath
    const readFrames = createFrameReader(messageBytesMax)
    let trailers: http2.IncomingHttpHeaders = {}
    stream.on('error', () => {})
    request.on('error', () => {})
    stream.pipe(request)
    request.on('response', (response, flags) => {
      if (stream.destroyed) return
      const ended = (flags & http2.constants.NGHTTP2_FLAG_END_STREAM) !== 0
      stream.respond(response, ended ? { endStream: true } : { waitForTrailers: true })
      if (ended) return
      stream.on('wantTrailers', () => stream.sendTrailers(trailers))
      if (wanted) {
        request.on('data', (chunk: Buffer) => {
          for (const frame of readFrames(chunk)) keep(frame.message)
        })
      }
      request.pipe(stream)
    })
    request.on('trailers', (received) => {
      trailers = received
    })
    stream.on('close', () => request.close(http2.constants.NGHTTP2_CANCEL))
    request.on('close', () => {
      if (request.rstCode !== 0) stream.close(request.rstCode)
    })
  }

  /** Headers that come once for each value, which Node has joined. */
  function repeated(headers: http2.IncomingHttpHeaders): http2.IncomingHttpHeaders {
    const methods = headers['x-docker-expose-session-grpc-method']
    if (typeof methods !== 'string') return headers
    return { ...headers, 'x-docker-expose-session-grpc-method': methods.split(', ') }
  }

  function keep(message: Buffer): void {
    const { result } = SolveResponse.decode(message)
    const refs = [result?.ref, ...Object.values(result?.refs?.refs ?? {})]
    for (const ref of refs) if (ref?.def !== undefined) definitions.push(ref.def)
  }

  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as net.AddressInfo
  return {
    address: `tcp://127.0.0.1:${port}`,
    take: () => definitions.splice(0),
    async [Symbol.asyncDispose]() {
      for (const session of sessions) session.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}
