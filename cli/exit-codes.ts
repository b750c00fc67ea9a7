/** The one map from errors to exit codes. docs/CLI.md lists them for people. */
import type { ErrorCode } from '../core/errors.ts'

export const exitCodes = {
  ok: 0,
  /** A build failed. `build` and `bake` end with the code that buildx ended with, most often this one. */
  failed: 1,
  usage: 2,
  environment: 3,
  unavailable: 4,
  access: 5,
  notFound: 6,
  alreadyExists: 7,
  exhausted: 8,
  /** Damaged data; also how `cache verify` ends when it found some. */
  corrupt: 9,
  version: 10,
  internal: 70,
  /** As a shell reports a program that Ctrl-C ended. */
  cancelled: 130,
} as const

const codes: Record<ErrorCode, number> = {
  'invalid-input': exitCodes.usage,
  'not-found': exitCodes.notFound,
  'already-exists': exitCodes.alreadyExists,
  unauthenticated: exitCodes.access,
  forbidden: exitCodes.access,
  unavailable: exitCodes.unavailable,
  deadline: exitCodes.unavailable,
  exhausted: exitCodes.exhausted,
  corrupt: exitCodes.corrupt,
  version: exitCodes.version,
  environment: exitCodes.environment,
  cancelled: exitCodes.cancelled,
  internal: exitCodes.internal,
}

export function exitCodeOf(code: ErrorCode): number {
  return codes[code]
}
