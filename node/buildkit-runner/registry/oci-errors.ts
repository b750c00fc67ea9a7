/**
 * Error answers in the shape of the distribution spec
 * (https://github.com/opencontainers/distribution-spec/blob/main/spec.md#error-codes). What the spec has no
 * code for is called as Docker's own registry calls it: `UNKNOWN`, `PAGINATION_NUMBER_INVALID`.
 */
import type { OutgoingHttpHeaders, ServerResponse } from 'node:http'
import { type ErrorCode, toHearthError } from '../../../core/errors.ts'

export type OciErrorCode =
  | 'BLOB_UNKNOWN'
  | 'BLOB_UPLOAD_INVALID'
  | 'BLOB_UPLOAD_UNKNOWN'
  | 'DIGEST_INVALID'
  | 'MANIFEST_INVALID'
  | 'MANIFEST_UNKNOWN'
  | 'NAME_UNKNOWN'
  | 'PAGINATION_NUMBER_INVALID'
  | 'SIZE_INVALID'
  | 'TOOMANYREQUESTS'
  | 'UNKNOWN'
  | 'UNSUPPORTED'

export interface Refusal {
  readonly status: number
  readonly code: OciErrorCode
  readonly message: string
  readonly headers?: OutgoingHttpHeaders
}

/** One answer for a wrong, an expired and a missing capability, so that none of them can be told apart. */
export const nameUnknown: Refusal = {
  status: 404,
  code: 'NAME_UNKNOWN',
  message: 'no such repository',
}

export const blobUnknown: Refusal = {
  status: 404,
  code: 'BLOB_UNKNOWN',
  message: 'no such blob in this repository',
}

export const manifestUnknown: Refusal = {
  status: 404,
  code: 'MANIFEST_UNKNOWN',
  message: 'no such manifest in this repository',
}

export const uploadUnknown: Refusal = {
  status: 404,
  code: 'BLOB_UPLOAD_UNKNOWN',
  message: 'no such upload: it was finished, cancelled, or left alone for too long',
}

/** Well-formed, of an algorithm that nothing here is named by: to be pushed it is wrong, to be pulled absent. */
export const onlySha256: Refusal = {
  status: 400,
  code: 'DIGEST_INVALID',
  message: 'content is named by sha256 here, and by no other algorithm',
}

export function digestInvalid(message: string): Refusal {
  return { status: 400, code: 'DIGEST_INVALID', message }
}

/** A known path with a method that it does not have. */
export function methodUnsupported(allowed: readonly string[]): Refusal {
  return {
    status: 405,
    code: 'UNSUPPORTED',
    message: `only ${allowed.join(', ')} can be done here`,
    headers: { allow: allowed.join(', ') },
  }
}

const meanings: Partial<Record<ErrorCode, { status: number; code: OciErrorCode }>> = {
  corrupt: { status: 400, code: 'DIGEST_INVALID' },
  'invalid-input': { status: 400, code: 'UNSUPPORTED' },
  // No 5xx that clients retry: a full disk is still full a second later.
  exhausted: { status: 507, code: 'UNKNOWN' },
}

/** The answer to anything thrown while a request was served. */
export function refusalOf(error: unknown): Refusal {
  const known = toHearthError(error)
  const meaning = meanings[known.code] ?? { status: 500, code: 'UNKNOWN' }
  const message = known.hint === undefined ? known.message : `${known.message} (${known.hint})`
  return { ...meaning, message }
}

export function refuse(response: ServerResponse, refusal: Refusal): void {
  const body = Buffer.from(
    JSON.stringify({ errors: [{ code: refusal.code, message: refusal.message }] }),
  )
  response.writeHead(refusal.status, {
    ...refusal.headers,
    'content-type': 'application/json',
    'content-length': body.length,
  })
  // Node leaves the body out by itself when the request is a HEAD.
  response.end(body)
}
