/**
 * When exports may begin. Exporting compresses, hashes and writes while the next build of the same person
 * may have been started already; nobody waits for an export, so it lets running builds go first, for a while.
 */
export interface QuietTime {
  /** A build is running until disposal. */
  busy(): Disposable
  /**
   * Resolves when no build has run for `graceMs`, or somebody waits for the slot that the export holds, or
   * after `limitMs`.
   */
  wait(): Promise<void>
  /** Nobody waits any longer: the node is stopping. */
  close(): void
}

export interface QuietTimeOptions {
  /** Long enough for the next build of a script to begin. Default 1 s. */
  graceMs?: number
  /** A node that is never quiet exports all the same. Default 30 s. */
  limitMs?: number
}

/** How often somebody in the queue is looked for. */
const lookEveryMs = 100

export function createQuietTime(
  deps: { isAnybodyQueued: () => boolean },
  { graceMs = 1_000, limitMs = 30_000 }: QuietTimeOptions = {},
): QuietTime {
  let running = 0
  let closed = false
  let quietSinceMs = performance.now()
  return {
    busy() {
      running += 1
      return {
        [Symbol.dispose]() {
          running -= 1
          quietSinceMs = performance.now()
        },
      }
    },
    wait() {
      const limitAtMs = performance.now() + limitMs
      return new Promise((resolve) => {
        const look = setInterval(() => {
          const nowMs = performance.now()
          const quiet = running === 0 && nowMs - quietSinceMs >= graceMs
          if (!closed && !quiet && !deps.isAnybodyQueued() && nowMs < limitAtMs) return
          clearInterval(look)
          resolve()
        }, lookEveryMs)
      })
    },
    close() {
      closed = true
    },
  }
}
