/** Lets work in while the store is open; closing waits for what is inside. */
import { HearthError } from '../../core/errors.ts'

export interface Gate {
  readonly isOpen: boolean
  /** @throws HearthError `unavailable` once closed */
  check(): void
  /**
   * Check, and keep the gate from closing until disposal.
   * @throws HearthError `unavailable` once closed
   */
  enter(): Disposable
  /** Nothing gets in from now on; resolves when the last inside has left. */
  close(): Promise<void>
}

export function createGate(what: string): Gate {
  let isOpen = true
  let inside = 0
  const emptied = Promise.withResolvers<void>()

  const check = () => {
    if (!isOpen) throw new HearthError('unavailable', `${what} is closed`)
  }
  return {
    get isOpen() {
      return isOpen
    },
    check,
    enter() {
      check()
      inside++
      return {
        [Symbol.dispose]() {
          inside--
          if (!isOpen && inside === 0) emptied.resolve()
        },
      }
    },
    close() {
      isOpen = false
      if (inside === 0) emptied.resolve()
      return emptied.promise
    },
  }
}
