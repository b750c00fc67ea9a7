/**
 * Who finishes a build wants its report, and asks the moment the client has its answer, which is a little
 * before the report is made: here such a question waits.
 */

/** A report that is still to come; disposal says that it has been made. */
export type ReportAhead = Disposable

export interface ReportWaits {
  announce(buildId: string): ReportAhead
  /** Resolves when what was announced for the build by now has been made. Rejects when the signal fires. */
  reported(buildId: string, options: { signal: AbortSignal }): Promise<void>
}

export function createReportWaits(): ReportWaits {
  const ahead = new Map<string, Set<Promise<void>>>()
  return {
    announce(buildId) {
      const made = Promise.withResolvers<void>()
      const ofBuild = ahead.get(buildId) ?? new Set()
      ahead.set(buildId, ofBuild)
      ofBuild.add(made.promise)
      return {
        [Symbol.dispose]() {
          made.resolve()
          ofBuild.delete(made.promise)
          // Another solve of the build may have been announced since, in a set of its own.
          if (ofBuild.size === 0 && ahead.get(buildId) === ofBuild) ahead.delete(buildId)
        },
      }
    },
    async reported(buildId, { signal }) {
      signal.throwIfAborted()
      const aborted = Promise.withResolvers<never>()
      const abort = (): void => aborted.reject(signal.reason)
      signal.addEventListener('abort', abort, { once: true })
      try {
        await Promise.race([Promise.all(ahead.get(buildId) ?? []), aborted.promise])
      } finally {
        signal.removeEventListener('abort', abort)
      }
    },
  }
}
