/**
 * Manifests by tag or digest. A tag lives as long as its grant; the manifest itself is a blob of the store
 * like any other.
 */
import { z } from 'zod'
import { type Digest, digestOf, isDigest } from '../../../core/digest.ts'
import { mib } from '../../../core/limits.ts'
import type { CacheStore } from '../../cache-store/index.ts'
import { receiveBody } from './bodies.ts'
import { answer, type Exchange, entityTag, repositoryPath } from './exchange.ts'
import { digestInvalid, manifestUnknown, type Refusal, refuse } from './oci-errors.ts'
import { matchesTag } from './ranges.ts'

/** The least that a registry must take (distribution spec, "Pushing Manifests"), and what others allow. */
const manifestBytesMax = 4 * mib

/** Tags that one grant may set. */
const tagsMax = 1000

const tagPattern = /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/

const manifestShape = z.looseObject({
  mediaType: z.string().max(255).optional(),
  manifests: z.unknown().optional(),
})

interface Manifest {
  readonly digest: Digest
  readonly mediaType: string
  readonly bytes: Uint8Array
}

const manifestInvalid: Refusal = {
  status: 400,
  code: 'MANIFEST_INVALID',
  message: 'the manifest is not a JSON object',
}

export async function serveManifest(
  store: CacheStore,
  { request, response, method, grant, signal }: Exchange,
  reference: string,
): Promise<void> {
  const found = await findManifest(store, { grant, signal }, reference)
  if (found === undefined) return refuse(response, manifestUnknown)
  const head = { etag: entityTag(found.digest), 'docker-content-digest': found.digest }
  if (matchesTag(request.headers['if-none-match'], head.etag)) return answer(response, 304, head)
  response.writeHead(200, {
    ...head,
    'content-type': found.mediaType,
    'content-length': found.bytes.length,
  })
  response.end(method === 'HEAD' ? undefined : found.bytes)
}

async function findManifest(
  store: CacheStore,
  { grant, signal }: Pick<Exchange, 'grant' | 'signal'>,
  reference: string,
): Promise<Manifest | undefined> {
  const document = isDigest(reference)
    ? grant.documents.get(reference)
    : grant.documentTags.get(reference)
  if (document !== undefined) return document
  const pushed = grant.pushed.get(reference)
  const digest = isDigest(reference) ? reference : pushed?.digest
  if (digest === undefined) return undefined
  const bytes = await readWhole(store, grant.scope, digest, signal)
  const mediaType = pushed?.mediaType ?? (bytes && mediaTypeOf(bytes))
  if (bytes === undefined || mediaType === undefined) return undefined
  return { digest, mediaType, bytes }
}

async function readWhole(
  store: CacheStore,
  scope: Exchange['grant']['scope'],
  digest: Digest,
  signal: AbortSignal,
): Promise<Buffer | undefined> {
  const held = store.stat(scope, digest)
  if (held === undefined || held.size > manifestBytesMax) return undefined
  const source = await store.open(scope, digest, { signal })
  return source === undefined ? undefined : Buffer.concat(await source.toArray())
}

/** What a manifest says of itself; a manifest of OCI need not say it. Undefined when it is no manifest. */
function mediaTypeOf(bytes: Buffer): string | undefined {
  let parsed: unknown
  try {
    parsed = JSON.parse(bytes.toString())
  } catch {
    return undefined
  }
  const shape = manifestShape.safeParse(parsed)
  if (!shape.success) return undefined
  if (shape.data.mediaType !== undefined) return shape.data.mediaType
  const kind = shape.data.manifests === undefined ? 'manifest' : 'index'
  return `application/vnd.oci.image.${kind}.v1+json`
}

export async function takeManifest(
  store: CacheStore,
  exchange: Exchange,
  reference: string,
): Promise<void> {
  const { request, response, grant, repository } = exchange
  if (!isDigest(reference) && !tagPattern.test(reference)) return refuse(response, manifestUnknown)
  const bytes = await receiveAll(exchange)
  if (bytes === undefined) {
    return refuse(response, {
      status: 413,
      code: 'SIZE_INVALID',
      message: `a manifest has at most ${manifestBytesMax} bytes`,
    })
  }
  const ownType = mediaTypeOf(bytes)
  if (ownType === undefined) return refuse(response, manifestInvalid)
  const digest = digestOf(bytes)
  if (isDigest(reference) && reference !== digest) {
    return refuse(response, digestInvalid(`the manifest is ${digest}`))
  }
  if (!isDigest(reference) && !grant.pushed.has(reference) && grant.pushed.size >= tagsMax) {
    return refuse(response, {
      status: 429,
      code: 'TOOMANYREQUESTS',
      message: `at most ${tagsMax} tags can be set in one build`,
    })
  }
  {
    await using writer = await store.createWriter(grant.scope)
    await writer.write(bytes)
    await writer.commit(digest)
  }
  if (grant.live) {
    grant.pin.add([digest])
    const mediaType = request.headers['content-type'] ?? ownType
    if (!isDigest(reference)) grant.pushed.set(reference, { digest, mediaType })
  }
  answer(response, 201, {
    location: `${repositoryPath(repository)}/manifests/${digest}`,
    'docker-content-digest': digest,
  })
}

/** Undefined when the body is larger than any manifest. */
async function receiveAll({ request }: Exchange): Promise<Buffer | undefined> {
  if (Number(request.headers['content-length'] ?? 0) > manifestBytesMax) return undefined
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of receiveBody(request)) {
    size += chunk.length
    if (size > manifestBytesMax) return undefined
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}
