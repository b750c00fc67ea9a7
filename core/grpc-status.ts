/** The one map between error codes and gRPC statuses, in both directions. */
import { Metadata, type ServiceError, status } from '@grpc/grpc-js'
import { type ErrorCode, HearthError, toHearthError } from './errors.ts'

const statusOf: Record<ErrorCode, status> = {
  'invalid-input': status.INVALID_ARGUMENT,
  'not-found': status.NOT_FOUND,
  'already-exists': status.ALREADY_EXISTS,
  unauthenticated: status.UNAUTHENTICATED,
  forbidden: status.PERMISSION_DENIED,
  unavailable: status.UNAVAILABLE,
  deadline: status.DEADLINE_EXCEEDED,
  exhausted: status.RESOURCE_EXHAUSTED,
  corrupt: status.DATA_LOSS,
  version: status.FAILED_PRECONDITION,
  environment: status.FAILED_PRECONDITION,
  cancelled: status.CANCELLED,
  internal: status.INTERNAL,
}

const codeOf = new Map<status, ErrorCode>(
  Object.entries(statusOf).map(([code, value]) => [value, code as ErrorCode]),
)
codeOf.set(status.FAILED_PRECONDITION, 'version')

const codeKey = 'hearth-code'
const hintKey = 'hearth-hint-bin'

/** What a gRPC handler answers for any thrown thing. */
export function toServiceError(error: unknown): Partial<ServiceError> {
  const known = toHearthError(error)
  const metadata = new Metadata()
  metadata.set(codeKey, known.code)
  if (known.hint !== undefined) metadata.set(hintKey, Buffer.from(known.hint))
  return { code: statusOf[known.code], details: known.message, metadata }
}

/** What a gRPC client makes of a failed call. */
export function fromServiceError(error: unknown, calling: string): HearthError {
  const service = error as Partial<ServiceError>
  if (typeof service.code !== 'number') return toHearthError(error, calling)
  const sent = service.metadata?.get(codeKey)[0]
  const code =
    typeof sent === 'string' && sent in statusOf
      ? (sent as ErrorCode)
      : (codeOf.get(service.code) ?? 'internal')
  const hint = service.metadata?.get(hintKey)[0]
  const message = service.details || service.message || 'failed without a message'
  // Whoever answers with a code of ours was reached, and says what is unavailable itself.
  const unreached = code === 'unavailable' && sent === undefined
  return new HearthError(code, unreached ? `cannot ${calling}: ${message}` : message, {
    cause: error,
    ...(hint instanceof Buffer ? { hint: hint.toString() } : {}),
  })
}
