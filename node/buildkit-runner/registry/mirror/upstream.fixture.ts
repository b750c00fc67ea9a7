/** For tests: a registry on the loopback that wants tokens, redirects, breaks off and lies when told to. */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type Digest, digestOf } from '../../../../core/digest.ts'

export interface FakeUpstream extends AsyncDisposable {
  /** `127.0.0.1:PORT`. */
  readonly host: string
  /** "METHOD path" of every request, in order, those for tokens and refused ones too. */
  readonly asked: string[]
  /** Requests that carried a credential other than a token of ours. */
  readonly credentials: string[]
  addBlob(bytes: Buffer): Digest
  /** An image of one layer, under a tag. */
  addImage(name: string, tag: string, layer: Buffer): { manifest: Digest; layer: Digest }
  /** Takes the place of the answer to a path that ends so; true when it has answered. */
  intercept: ((request: IncomingMessage, response: ServerResponse) => boolean) | undefined
  /** Repositories that strangers do not get. */
  readonly secret: Set<string>
  /** Whether even public ones need a token. */
  wantsToken: boolean
}

const manifestType = 'application/vnd.oci.image.manifest.v1+json'

export async function startFakeUpstream(): Promise<FakeUpstream> {
  const blobs = new Map<string, Buffer>()
  const tags = new Map<string, Digest>()
  const manifests = new Set<string>()
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? '/', 'http://upstream')
    upstream.asked.push(`${request.method} ${url.pathname}`)
    if (upstream.intercept?.(request, response) === true) return
    if (url.pathname === '/token') {
      const name = /^repository:(.*):pull$/.exec(url.searchParams.get('scope') ?? '')?.[1] ?? ''
      response.setHeader('content-type', 'application/json')
      response.end(JSON.stringify({ token: `for-${encodeURIComponent(name)}`, expires_in: 300 }))
      return
    }
    const match = /^\/v2\/(.+)\/(manifests|blobs)\/([^/]+)$/.exec(url.pathname)
    const [, name = '', kind = '', reference = ''] = match ?? []
    const given = request.headers.authorization
    const ours = `Bearer for-${encodeURIComponent(name)}`
    if (given !== undefined && given !== ours) upstream.credentials.push(given)
    const isSecret = upstream.secret.has(name)
    if (isSecret || (upstream.wantsToken && given !== ours)) {
      const realm = `http://${upstream.host}/token`
      response.setHeader(
        'www-authenticate',
        `Bearer realm="${realm}",service="fake",scope="repository:${name}:pull"`,
      )
      response.writeHead(401).end()
      return
    }
    const digest =
      kind === 'manifests' ? (tags.get(`${name}:${reference}`) ?? reference) : reference
    const bytes = blobs.get(digest)
    if (bytes === undefined || (kind === 'manifests' && !manifests.has(digest))) {
      response.writeHead(404).end()
      return
    }
    sendBytes(request, response, {
      bytes,
      digest,
      type: kind === 'manifests' ? manifestType : undefined,
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const upstream: FakeUpstream = {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked: [],
    credentials: [],
    secret: new Set(),
    wantsToken: true,
    intercept: undefined,
    addBlob(bytes) {
      const digest = digestOf(bytes)
      blobs.set(digest, bytes)
      return digest
    },
    addImage(name, tag, layer) {
      const config = Buffer.from(
        JSON.stringify({ of: createHash('sha256').update(layer).digest('hex') }),
      )
      const bytes = Buffer.from(
        JSON.stringify({
          schemaVersion: 2,
          mediaType: manifestType,
          config: { digest: upstream.addBlob(config), size: config.length },
          layers: [{ digest: upstream.addBlob(layer), size: layer.length }],
        }),
      )
      const manifest = upstream.addBlob(bytes)
      manifests.add(manifest)
      tags.set(`${name}:${tag}`, manifest)
      return { manifest, layer: digestOf(layer) }
    },
    async [Symbol.asyncDispose]() {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
  return upstream
}

export function sendBytes(
  request: IncomingMessage,
  response: ServerResponse,
  { bytes, digest, type }: { bytes: Buffer; digest: string; type?: string | undefined },
): void {
  const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0)
  const part = bytes.subarray(from)
  response.writeHead(from === 0 ? 200 : 206, {
    'content-type': type ?? 'application/octet-stream',
    'content-length': part.length,
    'docker-content-digest': digest,
    ...(from === 0 ? {} : { 'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` }),
  })
  response.end(request.method === 'HEAD' ? undefined : part)
}
