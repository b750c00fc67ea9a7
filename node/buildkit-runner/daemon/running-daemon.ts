/** A daemon that has answered: watched until its process has ended and nothing of it is left. */
import { HearthError } from '../../../core/errors.ts'
import type { Logger } from '../../../core/log.ts'
import { type Scope, scopeId } from '../../../core/scope.ts'
import type { DaemonFacts } from './control-client.ts'
import type { DaemonProcess } from './daemon-process.ts'
import { lastMessages, readLogFrom } from './log-file.ts'

export interface RunningDaemon extends DaemonFacts {
  readonly socket: string
  /** Aborted with a HearthError that names the cause, when the process has ended. */
  readonly ended: AbortSignal
  /** Resolves when what the process left on the machine is gone, too. Never rejects. */
  readonly gone: Promise<void>
  /** Ends the process; resolves with `gone`. */
  stop(): Promise<void>
}

/** Enough of a log for the first lines of a panic and what came before. */
export const logTailBytes = 64 * 1024
const messagesShown = 5

export function watchDaemon(
  deps: { log: Logger; cleanUp: () => Promise<void> },
  daemon: {
    scope: Scope
    process: DaemonProcess
    facts: DaemonFacts
    socket: string
    logFile: string
    /** Where in the log file this process began. */
    logStart: number
    stopLimitMs: number
  },
): RunningDaemon {
  const { log } = deps
  const scope = scopeId(daemon.scope)
  const ended = new AbortController()
  let stopping = false

  const watch = async (): Promise<void> => {
    const cause = await daemon.process.exited
    if (stopping) {
      ended.abort(new HearthError('unavailable', `BuildKit of ${scope} was stopped`))
      log.info({ scope, cause }, 'BuildKit stopped')
    } else {
      const words = await readLogFrom(daemon.logFile, daemon.logStart, logTailBytes).catch(() => '')
      const error = withLastWords(
        new HearthError('unavailable', `BuildKit of ${scope} has ended: ${cause}`),
        words,
        `the next build starts a new one; its log is ${daemon.logFile}`,
      )
      log.error({ scope, error }, 'BuildKit has ended')
      ended.abort(error)
    }
    try {
      await deps.cleanUp()
    } catch (error) {
      // The next start of this scope, or the next Hearth, does it again.
      log.warn({ scope, error }, 'could not remove what BuildKit left behind')
    }
  }
  const gone = watch()

  return {
    ...daemon.facts,
    socket: daemon.socket,
    ended: ended.signal,
    gone,
    async stop() {
      stopping = true
      await daemon.process.stop(daemon.stopLimitMs)
      await gone
    },
  }
}

/** The same error with the daemon's last messages in it. */
export function withLastWords(error: HearthError, words: string, hint: string): HearthError {
  const messages = lastMessages(words, messagesShown)
  const said = messages.length === 0 ? '' : `; its last messages:\n  ${messages.join('\n  ')}`
  return new HearthError(error.code, `${error.message}${said}`, { hint, cause: error })
}
