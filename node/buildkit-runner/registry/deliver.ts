/** Sends one blob, or what a request asks of it: RFC 9110, conditions and single ranges. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Readable } from 'node:stream'
import type { Digest } from '../../../core/digest.ts'
import { sendBody } from './bodies.ts'
import { answer, entityTag } from './exchange.ts'
import { blobUnknown, refuse } from './oci-errors.ts'
import { type ByteRange, matchesTag, parseRange } from './ranges.ts'

/** Where the bytes of one blob come from. */
export interface BlobSource {
  readonly size: number
  readonly mediaType: string
  /** Undefined when the blob has gone since it was looked up. */
  open(range: ByteRange | undefined): Promise<Readable | undefined>
  readonly onBytes: (count: number) => void
}

export interface BlobRequest {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly method: string
  readonly signal: AbortSignal
}

/** @param lost told when the blob had gone, or with what broke it off; not when its reader went away. */
export async function deliverBlob(
  { request, response, method, signal }: BlobRequest,
  digest: Digest,
  source: BlobSource,
  lost: (error?: unknown) => void,
): Promise<void> {
  const tag = entityTag(digest)
  const head = { etag: tag, 'docker-content-digest': digest, 'accept-ranges': 'bytes' }
  if (matchesTag(request.headers['if-none-match'], tag)) return answer(response, 304, head)
  const whole = { ...head, 'content-type': source.mediaType, 'content-length': source.size }
  if (method === 'HEAD') return answer(response, 200, whole)

  const asked = parseRange(rangeHeaderOf(request, tag), source.size)
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
    if (!signal.aborted) lost()
    throw error
  })
  if (body === undefined) {
    lost()
    return refuse(response, blobUnknown)
  }
  const length = range === undefined ? source.size : range.end - range.start + 1
  if (range === undefined) response.writeHead(200, whole)
  else {
    const place = `bytes ${range.start}-${range.end}/${source.size}`
    response.writeHead(206, { ...whole, 'content-length': length, 'content-range': place })
  }
  const outcome = await sendBody(response, body, { length, onBytes: source.onBytes })
  if (outcome.type === 'source failed') lost(outcome.error)
}

/** A range that was made for another version of the content counts for nothing (RFC 9110, 13.1.5). */
function rangeHeaderOf(request: IncomingMessage, tag: string): string | undefined {
  const condition = request.headers['if-range']
  if (condition !== undefined && condition !== tag) return undefined
  return request.headers.range
}
