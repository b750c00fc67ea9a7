/** How daemons in the foreground are stopped. */
import { HearthError } from '../../core/errors.ts'
import { exitCodes } from '../exit-codes.ts'
import type { Terminal } from '../terminal.ts'

export interface StopSignal extends Disposable {
  readonly signal: AbortSignal
  /** Resolves when somebody asked to stop. */
  readonly asked: Promise<void>
}

/** The first SIGTERM or SIGINT asks for an orderly end; a second one ends the process at once. */
export function catchStop(terminal: Terminal): StopSignal {
  const controller = new AbortController()
  const { promise, resolve } = Promise.withResolvers<void>()
  const onSignal = () => {
    if (controller.signal.aborted) {
      terminal.note('hearth: stopped at once')
      process.exit(exitCodes.cancelled)
    }
    controller.abort(new HearthError('cancelled', 'stopped before it was ready'))
    resolve()
  }
  process.on('SIGTERM', onSignal)
  process.on('SIGINT', onSignal)
  return {
    signal: controller.signal,
    asked: promise,
    [Symbol.dispose]() {
      process.off('SIGTERM', onSignal)
      process.off('SIGINT', onSignal)
    },
  }
}
