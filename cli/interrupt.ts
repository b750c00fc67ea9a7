/** Ctrl-C and its relatives as an AbortSignal, for as long as somebody wants to clean up after them. */
import { HearthError } from '../core/errors.ts'

export interface Interrupt extends Disposable {
  /** Aborted with a HearthError `cancelled`. */
  readonly signal: AbortSignal
}

/** Until disposed, SIGINT, SIGTERM and SIGHUP abort the signal instead of ending the process. */
export function catchInterrupts(): Interrupt {
  const controller = new AbortController()
  const abort = () => controller.abort(new HearthError('cancelled', 'cancelled'))
  const names = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
  for (const name of names) process.on(name, abort)
  return {
    signal: controller.signal,
    [Symbol.dispose]() {
      for (const name of names) process.off(name, abort)
    },
  }
}
