/** Tells a person who waits for a slot their place in line. */
import type { Terminal } from '../terminal.ts'
import { formatOrdinal } from '../units.ts'

export interface QueueNotice extends Disposable {
  /** 1 is next. */
  moved(position: number): void
}

/**
 * A build that gets its slot before `quietMs` have passed was never really waiting, and says nothing. After
 * that every new place is said at once.
 */
export function createQueueNotice(
  terminal: Pick<Terminal, 'note'>,
  options: { quietMs: number },
): QueueNotice {
  let timer: NodeJS.Timeout | undefined
  let quiet = true
  let place = 0
  const say = () => {
    quiet = false
    terminal.note(`hearth: waiting for a slot: ${formatOrdinal(place)} in line`)
  }
  return {
    moved(position) {
      if (position === place) return
      place = position
      if (quiet) timer ??= setTimeout(say, options.quietMs)
      else say()
    },
    [Symbol.dispose]() {
      clearTimeout(timer)
    },
  }
}
