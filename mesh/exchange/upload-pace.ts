/** How fast a node gives: all its callers share one allowance per second. */
import { setTimeout as delay } from 'node:timers/promises'

export interface UploadPace {
  /** Resolves when so many more bytes may go. */
  wait(bytes: number): Promise<void>
}

/** @param bytesPerS undefined: no limit. */
export function createUploadPace(bytesPerS: number | undefined): UploadPace {
  if (bytesPerS === undefined) return { wait: async () => {} }
  /** When everything promised so far will have gone. */
  let freeAtMs = performance.now()
  return {
    async wait(bytes) {
      const nowMs = performance.now()
      freeAtMs = Math.max(nowMs, freeAtMs) + (bytes / bytesPerS) * 1000
      const waitMs = freeAtMs - nowMs
      if (waitMs >= 1) await delay(waitMs)
    },
  }
}
