/**
 * Manifests by tag or digest. The bytes are a blob of the store like any other. A build's tags live in its
 * grant; a client that pushes to keep has them in the table (manifest-table.ts), by repository.
 */
import { type Digest, digestOf, isDigest } from '../../../core/digest.ts'
import { mib } from '../../../core/limits.ts'
import type { CacheStore } from '../../cache-store/index.ts'
import { receiveBody } from './bodies.ts'
import { answer, type Exchange, entityTag, repositoryPath, shelfOf } from './exchange.ts'
import {
  isAnyDigest,
  isTag,
  type ManifestDocument,
  parseManifest,
  plainType,
} from './manifest-document.ts'
import type { ManifestTable } from './manifest-table.ts'
import {
  digestInvalid,
  manifestUnknown,
  methodUnsupported,
  onlySha256,
  type Refusal,
  refuse,
} from './oci-errors.ts'
import { matchesTag } from './ranges.ts'

export interface ManifestDeps {
  store: CacheStore
  manifests?: ManifestTable
}

/** The least that a registry must take (distribution spec, "Pushing Manifests"), and what others allow. */
const manifestBytesMax = 4 * mib

/** Tags that one grant may set. */
const tagsMax = 1000

/** Tags that one push may set beside its digest; the spec asks for ten at least. */
const tagParametersMax = 64

interface Manifest {
  readonly digest: Digest
  readonly mediaType: string
  readonly bytes: Uint8Array
}

function manifestInvalid(message: string): Refusal {
  return { status: 400, code: 'MANIFEST_INVALID', message }
}

export async function serveManifest(
  deps: ManifestDeps,
  exchange: Exchange,
  reference: string,
): Promise<void> {
  const { request, response, method } = exchange
  const found = await findManifest(deps, exchange, reference)
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
  deps: ManifestDeps,
  exchange: Exchange,
  reference: string,
): Promise<Manifest | undefined> {
  const { grant, signal } = exchange
  const document = isDigest(reference)
    ? grant.documents.get(reference)
    : grant.documentTags.get(reference)
  if (document !== undefined) return document
  if (!isDigest(reference) && !isTag(reference)) return undefined
  if (grant.tags === 'of the scope') {
    const wanted = isDigest(reference) ? reference : { tag: reference }
    const row = deps.manifests?.find(shelfOf(exchange), wanted)
    const bytes = row && (await readWhole(deps.store, grant.scope, row.digest, signal))
    return row && bytes && { ...row, bytes }
  }
  const pushed = grant.pushed.get(reference)
  const digest = isDigest(reference) ? reference : pushed?.digest
  if (digest === undefined) return undefined
  const bytes = await readWhole(deps.store, grant.scope, digest, signal)
  const mediaType = pushed?.mediaType ?? (bytes && parseManifest(bytes)?.mediaType)
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

export async function takeManifest(
  deps: ManifestDeps,
  exchange: Exchange,
  reference: string,
): Promise<void> {
  const { request, response, grant, repository, query } = exchange
  const tags = isDigest(reference) ? query.getAll('tag') : [reference]
  const wrong = checkNames(reference, tags)
  if (wrong !== undefined) return refuse(response, wrong)
  const bytes = await receiveAll(exchange)
  if (bytes === undefined) {
    return refuse(response, {
      status: 413,
      code: 'SIZE_INVALID',
      message: `a manifest has at most ${manifestBytesMax} bytes`,
    })
  }
  const document = parseManifest(bytes)
  if (document === undefined) {
    return refuse(response, manifestInvalid('the body is no manifest, or is two kinds at once'))
  }
  const contentType = plainType(request.headers['content-type'] ?? '')
  if (contentType !== '' && contentType !== document.mediaType && saysItsType(bytes)) {
    return refuse(
      response,
      manifestInvalid(`it says that it is ${document.mediaType}, its Content-Type ${contentType}`),
    )
  }
  const mediaType = contentType || document.mediaType
  const digest = digestOf(bytes)
  if (isDigest(reference) && reference !== digest) {
    return refuse(response, digestInvalid(`the manifest is ${digest}`))
  }
  {
    await using writer = await deps.store.createWriter(grant.scope)
    await writer.write(bytes)
    await writer.commit(digest)
  }
  const manifest = { digest, mediaType, size: bytes.length }
  if (!(await keep(deps, exchange, { ...document, ...manifest }, tags))) {
    return refuse(response, {
      status: 429,
      code: 'TOOMANYREQUESTS',
      message: 'no more tags can be set here',
    })
  }
  const hasReferrers = grant.tags === 'of the scope' && document.subject !== undefined
  answer(response, 201, {
    location: `${repositoryPath(repository)}/manifests/${digest}`,
    'docker-content-digest': digest,
    ...(hasReferrers ? { 'oci-subject': document.subject } : {}),
    ...(isDigest(reference) && tags.length > 0 ? { 'oci-tag': tags.join(', ') } : {}),
  })
}

function checkNames(reference: string, tags: readonly string[]): Refusal | undefined {
  if (!isDigest(reference) && isAnyDigest(reference)) return onlySha256
  if (!isDigest(reference) && reference.includes(':')) return digestInvalid('this is not a digest')
  if (!isDigest(reference) && !isTag(reference)) return manifestUnknown
  if (tags.length > tagParametersMax) {
    const message = `at most ${tagParametersMax} tags can be set at once`
    return { status: 414, code: 'UNSUPPORTED', message }
  }
  if (tags.every((tag) => isTag(tag))) return undefined
  return manifestInvalid('a tag has 1 to 128 letters, digits, dots, hyphens and underscores')
}

/** Whether a Content-Type can contradict the manifest: one without a type of its own takes what it is given. */
function saysItsType(bytes: Buffer): boolean {
  const { mediaType } = JSON.parse(bytes.toString()) as { mediaType?: unknown }
  return typeof mediaType === 'string' && mediaType !== ''
}

/** @returns false when no more can be kept. */
async function keep(
  { manifests }: ManifestDeps,
  exchange: Exchange,
  manifest: ManifestDocument & { digest: Digest; size: number },
  tags: readonly string[],
): Promise<boolean> {
  const { grant } = exchange
  const { digest, mediaType, size, subject, artifactType, annotations, blobs, children } = manifest
  if (!grant.live) return true
  grant.pin.add([digest])
  if (grant.tags === 'of the scope') {
    const about =
      subject === undefined
        ? {}
        : {
            subject,
            ...(artifactType === undefined ? {} : { artifactType }),
            ...(annotations === undefined ? {} : { annotations }),
          }
    const row = { digest, mediaType, size, blobs, children, ...about }
    return (await manifests?.put(shelfOf(exchange), row, tags)) ?? false
  }
  const added = tags.filter((tag) => !grant.pushed.has(tag))
  if (grant.pushed.size + added.length > tagsMax) return false
  for (const tag of tags) grant.pushed.set(tag, { digest, mediaType })
  return true
}

/** DELETE: a tag alone, or a manifest with its tags. Its bytes are left to the store's own eviction. */
export async function removeManifest(
  { manifests }: ManifestDeps,
  exchange: Exchange,
  reference: string,
): Promise<void> {
  const { response, grant } = exchange
  if (grant.tags !== 'of the scope' || manifests === undefined) {
    return refuse(response, methodUnsupported(['GET', 'HEAD', 'PUT']))
  }
  const removed = isDigest(reference)
    ? await manifests.removeManifest(shelfOf(exchange), reference)
    : isTag(reference) && (await manifests.removeTag(shelfOf(exchange), reference))
  if (!removed) return refuse(response, manifestUnknown)
  if (isDigest(reference)) grant.pin.drop(reference)
  answer(response, 202)
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
