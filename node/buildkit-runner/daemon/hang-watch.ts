/**
 * Tells a daemon that hangs from one that is slow: it is asked the cheapest question there is, on a new
 * connection each time, and hangs when it has answered none of several in a row over a long time. A probe
 * during which this process itself was held up says nothing about the daemon and is not counted.
 *
 * Not by pings on the builds' own connections: BuildKit ends a connection that pings often (GOAWAY
 * too_many_pings), and takes its builds with it.
 */
import { setTimeout as delay } from 'node:timers/promises'

export interface HangLimits {
  /** Between the end of one probe and the next. Default 5 s. */
  everyMs: number
  /** A probe without an answer after this long has failed. Default 10 s. */
  answerMs: number
  /** A daemon hangs after so many failures in a row. Default 3. */
  failuresMin: number
  /** … that are spread over at least this long. Default 30 s: a busy machine may well need 10. */
  silentMs: number
}

export const hangLimits: HangLimits = {
  everyMs: 5_000,
  answerMs: 10_000,
  failuresMin: 3,
  silentMs: 30_000,
}

/** How much later than its limit a probe may end before this process counts as held up itself. */
const latenessMax = 0.5

export type HangVerdict = { type: 'hangs'; silentMs: number } | { type: 'no longer watched' }

/**
 * Resolves when the daemon hangs, or when the signal fires.
 * @param deps.probe rejects when there is no answer within `limitMs`, or none to be had.
 */
export async function watchForHang(
  deps: { probe: (options: { limitMs: number; signal: AbortSignal }) => Promise<void> },
  limits: HangLimits,
  signal: AbortSignal,
): Promise<HangVerdict> {
  let failures = 0
  let silentSinceMs = 0
  while (await waited(limits.everyMs, signal)) {
    const askedAtMs = performance.now()
    const outcome = await deps.probe({ limitMs: limits.answerMs, signal }).then(
      () => 'answered' as const,
      () => 'failed' as const,
    )
    if (signal.aborted) break
    const nowMs = performance.now()
    if (outcome === 'answered') failures = 0
    if (outcome === 'answered' || nowMs - askedAtMs > limits.answerMs * (1 + latenessMax)) continue
    if (failures === 0) silentSinceMs = askedAtMs
    failures += 1
    const silentMs = nowMs - silentSinceMs
    if (failures >= limits.failuresMin && silentMs >= limits.silentMs) {
      return { type: 'hangs', silentMs }
    }
  }
  return { type: 'no longer watched' }
}

/** @returns false when the signal has fired meanwhile. */
async function waited(forMs: number, signal: AbortSignal): Promise<boolean> {
  // Without a hold on the process: a daemon that is not stopped must not keep its Hearth from ending.
  await delay(forMs, undefined, { signal, ref: false }).catch(() => {})
  return !signal.aborted
}
