/** A daemon that has answered: watched until its process has ended and nothing of it is left. */
import { HearthError } from '../../../core/errors.ts'
import type { Logger } from '../../../core/log.ts'
import { type Scope, scopeId } from '../../../core/scope.ts'
import { connectControl, type DaemonFacts } from './control-client.ts'
import type { DaemonProcess } from './daemon-process.ts'
import { type HangLimits, type HangVerdict, watchForHang } from './hang-watch.ts'
import type { DaemonEnd } from './index.ts'
import { lastMessages, readLogFrom } from './log-file.ts'
import { type DumpOutcome, dumpStacks } from './stack-dump.ts'

export interface RunningDaemon extends DaemonFacts {
  readonly socket: string
  /** Aborted with a HearthError that names the cause, when the process has ended. */
  readonly ended: AbortSignal
  readonly endedBy: DaemonEnd | undefined
  readonly controlGroup: string
  /** Resolves when what the process left on the machine is gone, too. Never rejects. */
  readonly gone: Promise<void>
  /** Ends the process; resolves with `gone`. */
  stop(): Promise<void>
}

/** How long a hanging buildkitd may take to say what it was doing. */
const dumpLimitMs = 10_000

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
    controlGroup: string
    logFile: string
    /** Where in the log file this process began. */
    logStart: number
    stopLimitMs: number
    /** The path of buildkitd. */
    program: string
    hang: HangLimits
  },
): RunningDaemon {
  const { log } = deps
  const scope = scopeId(daemon.scope)
  const ended = new AbortController()
  /** Nobody needs to know any more whether it hangs. */
  const over = new AbortController()
  let stopping = false
  let endedBy: DaemonEnd | undefined
  let replacing: Promise<HearthError> | undefined

  /** Once it is known to hang, there is no way back: what it was asked for in vain is lost anyway. */
  async function replaceHanging(verdict: HangVerdict & { type: 'hangs' }): Promise<HearthError> {
    const silentSeconds = Math.round(verdict.silentMs / 1000)
    log.error(
      { scope, silentSeconds },
      'BuildKit does not answer: taking its dump, then killing it',
    )
    const dump = await dumpStacks({
      ...daemon,
      process: daemon.process.identity,
      limitMs: dumpLimitMs,
    }).catch((error: unknown): DumpOutcome => {
      log.warn({ scope, error }, 'no dump of a hanging BuildKit')
      return { type: 'no dump', reason: 'it printed nothing' }
    })
    await daemon.process.kill()
    return hangError(scope, silentSeconds, dump)
  }

  void watchForHang({ probe: probeAt(daemon.socket) }, daemon.hang, over.signal).then((verdict) => {
    if (verdict.type === 'hangs' && !stopping) replacing = replaceHanging(verdict)
  })

  const watch = async (): Promise<void> => {
    const cause = await daemon.process.exited
    over.abort()
    if (replacing !== undefined) {
      const error = await replacing
      log.error({ scope, error }, 'BuildKit hung and was killed')
      endedBy = 'hung'
      ended.abort(error)
    } else if (stopping) {
      endedBy = 'stopped'
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
      endedBy = 'died'
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
    get endedBy() {
      return endedBy
    },
    controlGroup: daemon.controlGroup,
    gone,
    async stop() {
      stopping = true
      over.abort()
      await daemon.process.stop(daemon.stopLimitMs)
      await gone
    },
  }
}

/** On a connection of its own each time: see watchForHang. */
function probeAt(socket: string) {
  return async (options: { limitMs: number; signal: AbortSignal }): Promise<void> => {
    using control = connectControl(socket)
    await control.probe(options)
  }
}

function hangError(scope: string, silentSeconds: number, dump: DumpOutcome): HearthError {
  const dumped =
    dump.type === 'dumped' ? `its dump is ${dump.file}` : `there is no dump of it (${dump.reason})`
  return new HearthError(
    'unavailable',
    `BuildKit of ${scope} hung for ${silentSeconds} s and was replaced; ${dumped}`,
    { hint: 'build again; if it hangs again, report it to BuildKit together with the dump' },
  )
}

/** The same error with the daemon's last messages in it. */
export function withLastWords(error: HearthError, words: string, hint: string): HearthError {
  const messages = lastMessages(words, messagesShown)
  const said = messages.length === 0 ? '' : `; its last messages:\n  ${messages.join('\n  ')}`
  return new HearthError(error.code, `${error.message}${said}`, { hint, cause: error })
}
