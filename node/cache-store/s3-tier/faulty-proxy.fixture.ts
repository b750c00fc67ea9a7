/** Stands before a real S3 server and lets tests break what passes. */
import { once } from 'node:events'
import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'
import type { ExecutionContext } from 'ava'
import type { S3Server } from '../../../test/harness/index.ts'

export interface FaultyProxy {
  /** To be used instead of the server. */
  readonly server: S3Server
  /** `PUT blobs/…`: method and path below the bucket, without what is signed. */
  readonly requests: string[]
  /** For each request from now on; undefined lets it pass. */
  breakWith(fault: (request: string) => Fault | undefined): void
}

export type Fault =
  /** Nothing is answered. */
  | 'silence'
  /** The connection is closed. */
  | 'reset'
  /** Half of the body, then the connection is closed. */
  | 'broken off'
  /** Half of the body, as if that were all. */
  | 'truncated'
  /** One bit is another. */
  | 'flipped bit'
  | { status: number; code: string }

export async function startFaultyProxy(t: ExecutionContext, real: S3Server): Promise<FaultyProxy> {
  const requests: string[] = []
  let faultOf: (request: string) => Fault | undefined = () => undefined
  const proxy = http.createServer((incoming, outgoing) => {
    const { pathname } = new URL(incoming.url ?? '/', real.endpoint)
    const request = `${incoming.method} ${pathname.split('/').slice(2).join('/')}`
    requests.push(request)
    const fault = faultOf(request)
    if (fault === 'silence') return void incoming.resume()
    if (fault === 'reset') return void incoming.socket.destroy()
    if (typeof fault === 'object') {
      incoming.resume()
      outgoing.writeHead(fault.status, { 'content-type': 'application/xml' })
      return void outgoing.end(`<Error><Code>${fault.code}</Code><Message>no</Message></Error>`)
    }
    const forward = http.request(
      real.endpoint,
      { method: incoming.method, path: incoming.url, headers: incoming.headers },
      (answer) => void pass(answer, outgoing, fault).catch(() => outgoing.destroy()),
    )
    forward.on('error', () => outgoing.destroy())
    incoming.on('error', () => forward.destroy())
    incoming.pipe(forward)
  })
  proxy.listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  t.teardown(() => {
    proxy.close()
    proxy.closeAllConnections()
  })
  const { port } = proxy.address() as AddressInfo
  return {
    server: { ...real, endpoint: `http://127.0.0.1:${port}` },
    requests,
    breakWith(fault) {
      faultOf = fault
    },
  }
}

async function pass(
  answer: http.IncomingMessage,
  outgoing: http.ServerResponse,
  fault: 'broken off' | 'truncated' | 'flipped bit' | undefined,
): Promise<void> {
  const { statusCode = 502, headers } = answer
  if (fault === undefined) {
    outgoing.writeHead(statusCode, headers)
    answer.pipe(outgoing)
    return
  }
  const body = await buffer(answer)
  const half = body.subarray(0, body.length / 2)
  if (fault === 'truncated') {
    outgoing.writeHead(statusCode, { ...headers, 'content-length': half.length })
    outgoing.end(half)
    return
  }
  outgoing.writeHead(statusCode, headers)
  if (fault === 'broken off') return void outgoing.write(half, () => outgoing.destroy())
  body.writeUInt8((body[half.length] ?? 0) ^ 1, half.length)
  outgoing.end(body)
}
