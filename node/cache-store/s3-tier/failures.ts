/** The one place that knows how the SDK and S3 servers say that something is wrong, and what a person can do then. */
import { type ErrorCode, HearthError, toHearthError } from '../../../core/errors.ts'

interface Meaning {
  readonly code: ErrorCode
  readonly hint: string
}

const rights =
  's3:ListBucket on the bucket and s3:GetObject, s3:PutObject, s3:DeleteObject on what is in it'
const reach: Meaning = {
  code: 'unavailable',
  hint: 'check --s3-endpoint, and that this machine reaches it; builds go on without it meanwhile',
}
const denied: Meaning = { code: 'forbidden', hint: `give these credentials ${rights}` }
const wrongKeys: Meaning = {
  code: 'unauthenticated',
  hint: 'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role, and start the node again',
}
const otherRegion: Meaning = {
  code: 'environment',
  hint: "name the bucket's region in AWS_REGION",
}
const clocks: Meaning = { code: 'environment', hint: "set this machine's clock" }
const authority: Meaning = {
  code: 'environment',
  hint: "put the certificate of the endpoint's authority into a file, and name it in NODE_EXTRA_CA_CERTS",
}
const busy: Meaning = {
  code: 'unavailable',
  hint: 'it asks for patience; nothing needs to be done',
}

/** Error codes of S3 (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html), of the SDK and of Node. */
const meanings: Record<string, Meaning> = {
  NoSuchBucket: { code: 'not-found', hint: 'make the bucket, or correct --s3' },
  AccessDenied: denied,
  AllAccessDisabled: denied,
  InvalidAccessKeyId: wrongKeys,
  SignatureDoesNotMatch: wrongKeys,
  InvalidToken: wrongKeys,
  ExpiredToken: wrongKeys,
  CredentialsProviderError: wrongKeys,
  AuthorizationHeaderMalformed: otherRegion,
  PermanentRedirect: otherRegion,
  RequestTimeTooSkewed: clocks,
  SlowDown: busy,
  ServiceUnavailable: busy,
  InternalError: busy,
  EntityTooLarge: { code: 'invalid-input', hint: 'the object store takes no object of that size' },
  QuotaExceeded: { code: 'exhausted', hint: 'raise the quota of the bucket' },
  SELF_SIGNED_CERT_IN_CHAIN: authority,
  DEPTH_ZERO_SELF_SIGNED_CERT: authority,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: authority,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: authority,
  TimeoutError: reach,
  ECONNREFUSED: reach,
  ECONNRESET: reach,
  ENOTFOUND: reach,
  EAI_AGAIN: reach,
  EHOSTUNREACH: reach,
  ENETUNREACH: reach,
  ETIMEDOUT: reach,
  EPIPE: reach,
}

/** True when it says that there is no such object; a missing bucket is trouble, where it can be told apart. */
export function isAbsence(error: unknown): boolean {
  return statusOf(error) === 404 && nameOf(error) !== 'NoSuchBucket'
}

/** @param doing "list fragments": for the message. */
export function toStoreError(error: unknown, doing: string): HearthError {
  if (error instanceof HearthError) return error
  const name = nameOf(error)
  const meaning = meanings[codeOf(error)] ?? meanings[name] ?? meaningOfStatus(statusOf(error))
  if (meaning === undefined) return toHearthError(error, doing)
  return new HearthError(meaning.code, `cannot ${doing}: ${describe(error, name)}`, {
    hint: meaning.hint,
    cause: error,
  })
}

/** Whether the same request may well succeed later, so that the object store is left alone for a while. */
export function isOutage(error: HearthError): boolean {
  return error.code !== 'invalid-input' && error.code !== 'cancelled' && error.code !== 'corrupt'
}

function meaningOfStatus(status: number): Meaning | undefined {
  if (status === 401) return wrongKeys
  // HEAD has no body that would say more.
  if (status === 403) return denied
  if (status === 301 || status === 307) return otherRegion
  if (status === 429 || status >= 500) return busy
  return undefined
}

function describe(error: unknown, name: string): string {
  const message = error instanceof Error ? error.message : String(error)
  const status = statusOf(error)
  const said = message === '' || message === 'UnknownError' ? name : message
  return status === 0 ? said : `${said} (HTTP ${status})`
}

function statusOf(error: unknown): number {
  const { $metadata } = (error ?? {}) as { $metadata?: { httpStatusCode?: unknown } }
  return typeof $metadata?.httpStatusCode === 'number' ? $metadata.httpStatusCode : 0
}

function nameOf(error: unknown): string {
  const { name } = (error ?? {}) as { name?: unknown }
  return typeof name === 'string' ? name : ''
}

function codeOf(error: unknown): string {
  const { code } = (error ?? {}) as { code?: unknown }
  return typeof code === 'string' ? code : ''
}
