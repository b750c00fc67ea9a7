/**
 * Reports on their way to the coordinator. Each solve is sent by itself, again and again until it has
 * arrived; a newer report of the same solve takes the place of the older one. The queue is bounded: while
 * the coordinator is away for long, the oldest reports go.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { type ErrorCode, toHearthError } from '../core/errors.ts'
import type { Logger } from '../core/log.ts'
import type { BuildReport } from '../proto/generated/hearth/v1/build.ts'
import { backoffMs } from './membership-backoff.ts'

export interface ReportQueue extends AsyncDisposable {
  add(report: BuildReport): void
  settled(buildId: string, options: { signal: AbortSignal }): Promise<void>
  /** The coordinator has just answered something: try again at once. */
  wake(): void
}

export interface ReportQueueOptions {
  /** Solves that may wait. Default 1,000. */
  waitingMax?: number
  /** How long the disposal waits for what is still to be sent. Default 2,000. */
  closeMs?: number
}

/** Sending the same again will not help. */
const finalCodes: readonly ErrorCode[] = ['invalid-input', 'forbidden', 'exhausted', 'version']

export function createReportQueue(
  deps: { send: (report: BuildReport, signal: AbortSignal) => Promise<void>; log: Logger },
  options: ReportQueueOptions = {},
): ReportQueue {
  const { log } = deps
  const waitingMax = options.waitingMax ?? 1_000
  const waiting = new Map<string, BuildReport>()
  const onRemoved = new Set<(key: string) => void>()
  const stopped = new AbortController()
  let woken = Promise.withResolvers<void>()
  let dropped = 0

  function put(report: BuildReport): void {
    const key = `${report.buildId} ${report.solves[0]?.ref}`
    // Deleted first, so that what is newest is last.
    waiting.delete(key)
    waiting.set(key, report)
    if (waiting.size <= waitingMax) return
    const [oldest] = waiting.keys()
    if (oldest !== undefined) remove(oldest)
    dropped += 1
    log.warn({ dropped }, 'the coordinator is away for long: the oldest report was dropped')
  }

  function remove(key: string): void {
    waiting.delete(key)
    for (const tell of onRemoved) tell(key)
  }

  async function run(): Promise<void> {
    let failures = 0
    while (!stopped.signal.aborted) {
      const [next] = waiting
      if (next === undefined) {
        await nextWake()
        continue
      }
      const [key, report] = next
      const done = await attempt(report)
      // A newer report of the same solve may have come meanwhile.
      if (done && waiting.get(key) === report) remove(key)
      failures = done ? 0 : failures + 1
      if (!done) await Promise.race([nextWake(), pause(backoffMs(failures))])
    }
  }

  /** @returns false when it is worth trying again. */
  async function attempt(report: BuildReport): Promise<boolean> {
    try {
      await deps.send(report, stopped.signal)
      return true
    } catch (error) {
      const { code, message } = toHearthError(error)
      const isFinal = finalCodes.includes(code)
      const fields = { build: report.buildId, reason: message }
      if (isFinal) log.error(fields, 'the coordinator refuses a report')
      else log.debug(fields, 'a report has not arrived yet')
      return isFinal
    }
  }

  function nextWake(): Promise<void> {
    if (!stopped.signal.aborted) woken = Promise.withResolvers()
    return woken.promise
  }

  const pause = (timeMs: number) =>
    delay(timeMs, undefined, { signal: stopped.signal }).catch(() => {})
  const running = run()

  return {
    add(report) {
      for (const solve of report.solves) put({ ...report, solves: [solve] })
      woken.resolve()
    },
    wake: () => woken.resolve(),
    async settled(buildId, { signal }) {
      const left = new Set<string>()
      for (const [key, report] of waiting) if (report.buildId === buildId) left.add(key)
      if (left.size === 0) return
      const { promise, resolve, reject } = Promise.withResolvers<void>()
      const tell = (key: string) => {
        left.delete(key)
        if (left.size === 0) resolve()
      }
      const abort = () => reject(signal.reason)
      onRemoved.add(tell)
      signal.addEventListener('abort', abort, { once: true })
      try {
        if (signal.aborted) abort()
        await promise
      } finally {
        onRemoved.delete(tell)
        signal.removeEventListener('abort', abort)
      }
    },
    async [Symbol.asyncDispose]() {
      const sent = Promise.withResolvers<void>()
      const check = () => waiting.size === 0 && sent.resolve()
      onRemoved.add(check)
      check()
      woken.resolve()
      await Promise.race([sent.promise, pause(options.closeMs ?? 2_000)])
      stopped.abort()
      woken.resolve()
      await running
      if (waiting.size > 0) log.warn({ reports: waiting.size }, 'reports were not delivered')
    },
  }
}
