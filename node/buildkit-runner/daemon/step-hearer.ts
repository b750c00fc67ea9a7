/** Who hears of steps that have folders of BuildKit's state mounted; see runc-guard.ts for when. */
import type { Scope } from '../../../core/scope.ts'

export interface StepHearer {
  /** Answers on the daemon's socket until it is disposed, which is when the daemon has ended. */
  serve(daemon: SteppingDaemon): Promise<AsyncDisposable>
}

export interface SteppingDaemon {
  readonly scope: Scope
  /** A process in the daemon's mount namespace, in which steps are prepared. */
  readonly pid: number
  /** Where its state is, seen from here and from there. */
  readonly root: string
  /** On the same file system, emptied before each start. */
  readonly temporary: string
  /** Where to listen: no step can reach it. */
  readonly socket: string
  /** See StepNews.markers. To be made by who serves. */
  readonly markers: string
}

/** A step that waits for an answer runs without one after this long. */
export const stepAnswerMs = 120_000
