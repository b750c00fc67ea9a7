/** Blobs by digest: HEAD and GET, with single ranges and conditions; DELETE. */
import { Readable } from 'node:stream'
import { type Digest, isDigest } from '../../../core/digest.ts'
import { describeError } from '../../../core/errors.ts'
import type { Logger } from '../../../core/log.ts'
import type { CacheStore } from '../../cache-store/index.ts'
import type { Holds } from './adoption.ts'
import { sendBody } from './bodies.ts'
import { answer, type Exchange, entityTag } from './exchange.ts'
import { isAnyDigest } from './manifest-document.ts'
import {
  blobUnknown,
  digestInvalid,
  methodUnsupported,
  type Refusal,
  refuse,
} from './oci-errors.ts'
import { type ByteRange, matchesTag, parseRange } from './ranges.ts'

export interface BlobDeps {
  store: CacheStore
  holds: Holds
  log: Logger
}

/** Where the bytes of one blob come from: the store, or a document of the grant. */
interface BlobSource {
  readonly size: number
  readonly mediaType: string
  /** Undefined when the blob has gone since it was looked up. */
  open(range: ByteRange | undefined): Promise<Readable | undefined>
  readonly onBytes: (count: number) => void
}

export async function serveBlob(deps: BlobDeps, exchange: Exchange, text: string): Promise<void> {
  const { grant, request, response } = exchange
  if (!isDigest(text)) return refuse(response, unknownName(text))
  const source = await findSource(deps, exchange, text)
  if (source === undefined) {
    grant.couldNotDeliver(text)
    return refuse(response, blobUnknown)
  }

  const tag = entityTag(text)
  const head = { etag: tag, 'docker-content-digest': text, 'accept-ranges': 'bytes' }
  if (matchesTag(request.headers['if-none-match'], tag)) return answer(response, 304, head)
  const whole = { ...head, 'content-type': source.mediaType, 'content-length': source.size }
  if (exchange.method === 'HEAD') return answer(response, 200, whole)

  const asked = parseRange(rangeHeaderOf(exchange, tag), source.size)
  if (asked.type === 'unsatisfiable') {
    return refuse(response, {
      status: 416,
      code: 'SIZE_INVALID',
      message: `the blob has ${source.size} bytes`,
      headers: { ...head, 'content-range': `bytes */${source.size}` },
    })
  }
  const range = asked.type === 'part' ? asked.range : undefined
  const body = await source.open(range).catch((error: unknown) => {
    if (!exchange.signal.aborted) grant.couldNotDeliver(text)
    throw error
  })
  if (body === undefined) {
    grant.couldNotDeliver(text)
    return refuse(response, blobUnknown)
  }
  const length = range === undefined ? source.size : range.end - range.start + 1
  if (range === undefined) response.writeHead(200, whole)
  else {
    const place = `bytes ${range.start}-${range.end}/${source.size}`
    response.writeHead(206, { ...whole, 'content-length': length, 'content-range': place })
  }
  const outcome = await sendBody(response, body, { length, onBytes: source.onBytes })
  if (outcome.type === 'source failed') {
    grant.couldNotDeliver(text)
    deps.log.warn({ digest: text, error: describeError(outcome.error) }, 'a blob broke off')
  }
}

/** Of another algorithm there is nothing here; what is no digest at all is a mistake. */
function unknownName(text: string): Refusal {
  if (isAnyDigest(text)) return blobUnknown
  return digestInvalid(`"${text.slice(0, 100)}" is not a digest`)
}

/** DELETE, by a client that keeps: the scope forgets the blob. A build that has it pinned may finish with it. */
export async function removeBlob(
  { store }: Pick<BlobDeps, 'store'>,
  { grant, response }: Exchange,
  text: string,
): Promise<void> {
  if (grant.tags !== 'of the scope') return refuse(response, methodUnsupported(['GET', 'HEAD']))
  if (!isDigest(text)) return refuse(response, unknownName(text))
  if (store.stat(grant.scope, text) === undefined) return refuse(response, blobUnknown)
  grant.pin.drop(text)
  await store.remove(grant.scope, text)
  answer(response, 202)
}

/** A range that was made for another version of the content counts for nothing (RFC 9110, 13.1.5). */
function rangeHeaderOf(exchange: Exchange, tag: string): string | undefined {
  const condition = exchange.request.headers['if-range']
  if (condition !== undefined && condition !== tag) return undefined
  return exchange.request.headers.range
}

async function findSource(
  deps: BlobDeps,
  { grant, signal }: Exchange,
  digest: Digest,
): Promise<BlobSource | undefined> {
  const document = grant.documents.get(digest)
  if (document !== undefined) {
    const { bytes, mediaType } = document
    return {
      size: bytes.length,
      mediaType,
      open: async (range) => {
        const part = bytes.subarray(range?.start ?? 0, (range?.end ?? bytes.length - 1) + 1)
        return Readable.from(part.length === 0 ? [] : [Buffer.from(part)])
      },
      onBytes: () => {},
    }
  }
  if (grant.right === 'write' && !(await deps.holds(grant, digest))) return undefined
  const held = deps.store.stat(grant.scope, digest)
  if (held === undefined) return undefined
  return {
    size: held.size,
    mediaType: 'application/octet-stream',
    open: (range) => deps.store.open(grant.scope, digest, { ...range, signal }),
    onBytes: (count) => {
      grant.bytesRead += count
    },
  }
}
