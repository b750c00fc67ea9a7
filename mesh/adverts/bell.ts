/** Something may have happened: whoever waits looks again. */
export interface Bell {
  ring(): void
  /** Resolves at the next ring, when the signal aborts, or after this long. */
  wait(options: { signal: AbortSignal; limitMs: number }): Promise<void>
}

export function createBell(): Bell {
  let next = Promise.withResolvers<void>()
  return {
    ring() {
      next.resolve()
      next = Promise.withResolvers()
    },
    async wait({ signal, limitMs }) {
      if (signal.aborted) return
      const { promise, resolve } = Promise.withResolvers<void>()
      const stop = () => resolve()
      const timer = setTimeout(stop, limitMs)
      signal.addEventListener('abort', stop)
      try {
        await Promise.race([next.promise, promise])
      } finally {
        clearTimeout(timer)
        signal.removeEventListener('abort', stop)
      }
    },
  }
}
