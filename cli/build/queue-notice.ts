/** Tells a person who waits for a slot their place in line, and what keeps the line from moving. */
import type { Terminal } from '../terminal.ts'
import { formatOrdinal } from '../units.ts'

export interface QueueNotice extends Disposable {
  /** @param position 1 is next. @param reason one line, empty when only a slot is waited for. */
  moved(position: number, reason: string): void
}

/**
 * A build that gets its slot before `quietMs` have passed was never really waiting, and says nothing. After
 * that every new place, or reason, is said at once.
 */
export function createQueueNotice(
  terminal: Pick<Terminal, 'note'>,
  options: { quietMs: number },
): QueueNotice {
  let timer: NodeJS.Timeout | undefined
  let quiet = true
  let place = 0
  let why = ''
  const say = () => {
    quiet = false
    const slot = `waiting for a slot: ${formatOrdinal(place)} in line`
    terminal.note(why === '' ? `hearth: ${slot}` : `hearth: waiting: ${why}`)
  }
  return {
    moved(position, reason) {
      // The place says nothing while nobody moves.
      if (reason === why && (position === place || why !== '')) return
      place = position
      why = reason
      if (quiet) timer ??= setTimeout(say, options.quietMs)
      else say()
    },
    [Symbol.dispose]() {
      clearTimeout(timer)
    },
  }
}
