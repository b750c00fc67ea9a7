/**
 * One error for everything that can go wrong in operation. Bugs throw assertions instead, and expected
 * outcomes (a miss, a full queue) are values.
 */

/** Closed set: a code decides the gRPC status (grpc-status.ts) and the exit code (cli/exit-codes.ts). */
export type ErrorCode =
  | 'invalid-input' // what the person or peer gave is malformed
  | 'not-found'
  | 'already-exists'
  | 'unauthenticated' // no or wrong credential
  | 'forbidden' // right credential, not for this
  | 'unavailable' // somebody we need is away; trying again may help
  | 'deadline' // a wait reached its limit
  | 'exhausted' // disk, slots, queue: full
  | 'corrupt' // bytes that are not what they claim to be
  | 'version' // made by a newer Hearth than this one
  | 'environment' // the machine lacks something: a tool, a right, a port
  | 'cancelled'
  | 'internal'

export interface HearthErrorOptions {
  /** What the person can do next. */
  hint?: string
  cause?: unknown
}

export class HearthError extends Error {
  readonly code: ErrorCode
  readonly hint: string | undefined

  constructor(code: ErrorCode, message: string, options: HearthErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'HearthError'
    this.code = code
    this.hint = options.hint
  }
}

/** The one place that gives Node's errno codes a meaning. */
const errnoMeanings: Record<string, { code: ErrorCode; hint?: string }> = {
  ENOENT: { code: 'not-found' },
  EEXIST: { code: 'already-exists' },
  EACCES: { code: 'environment', hint: 'check who owns the file, or run as that user' },
  EPERM: { code: 'environment', hint: 'check who owns the file, or run as root' },
  EROFS: { code: 'environment', hint: 'the file system is read-only: choose another folder' },
  ENOSPC: { code: 'exhausted', hint: 'free some disk space' },
  EDQUOT: { code: 'exhausted', hint: 'the disk quota is used up' },
  EMFILE: { code: 'exhausted', hint: 'raise the limit of open files (ulimit -n)' },
  EADDRINUSE: { code: 'environment', hint: 'choose another port, or stop what listens there' },
  EADDRNOTAVAIL: { code: 'environment', hint: 'choose an address of this machine' },
  ECONNREFUSED: { code: 'unavailable', hint: 'is it running?' },
  ECONNRESET: { code: 'unavailable' },
  EPIPE: { code: 'unavailable' },
  ENOTFOUND: { code: 'unavailable', hint: 'check the host name' },
  ETIMEDOUT: { code: 'deadline' },
  ABORT_ERR: { code: 'cancelled' },
}

function errnoOf(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null)?.code
  return typeof code === 'string' ? code : undefined
}

/** True when the error, or what caused it, carries this errno (`ENOENT`, …). */
export function hasErrno(error: unknown, ...errnos: string[]): boolean {
  const errno = errnoOf(error)
  return errno !== undefined && errnos.includes(errno)
}

/**
 * Gives any thrown thing a code, keeping a HearthError as it is.
 * @param doing what was being done, for the message: "open the cache index".
 */
export function toHearthError(error: unknown, doing?: string): HearthError {
  if (error instanceof HearthError) return error
  const text = error instanceof Error ? error.message : String(error)
  const meaning = errnoMeanings[errnoOf(error) ?? '']
  const name = (error as { name?: unknown } | null)?.name
  const code = meaning?.code ?? (name === 'AbortError' ? 'cancelled' : 'internal')
  return new HearthError(code, doing === undefined ? text : `cannot ${doing}: ${text}`, {
    cause: error,
    ...(meaning?.hint === undefined ? {} : { hint: meaning.hint }),
  })
}

/** One line for people and logs: what happened and what to do. */
export function describeError(error: unknown): string {
  const known = toHearthError(error)
  return known.hint === undefined ? known.message : `${known.message} (${known.hint})`
}
