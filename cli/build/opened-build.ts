/** A build that the coordinator knows of: it is told the end exactly once, whatever happens in between. */
import { type Build, BuildOutcome } from '../../proto/generated/hearth/v1/build.ts'
import { BuildsService } from '../../proto/generated/hearth/v1/coordinator.ts'
import type { CoordinatorClient } from '../coordinator-client.ts'
import type { BuildEnding } from './summary.ts'

export interface OpenedBuild extends AsyncDisposable {
  readonly id: string
  /**
   * Ends the build. Without a call the disposal ends it as cancelled.
   * @returns what the coordinator knows of it by then; undefined when it does not answer in time.
   */
  finish(ending: BuildEnding, durationMs: number): Promise<Build | undefined>
}

// The report of a node that is well is there within milliseconds. Nobody waits longer than this for a summary.
const finishMs = 1500

const outcomes: Record<BuildEnding, BuildOutcome> = {
  succeeded: BuildOutcome.BUILD_OUTCOME_SUCCEEDED,
  failed: BuildOutcome.BUILD_OUTCOME_FAILED,
  cancelled: BuildOutcome.BUILD_OUTCOME_CANCELLED,
}

export function trackBuild(client: CoordinatorClient, id: string): OpenedBuild {
  let finished = false
  const finish = async (ending: BuildEnding, durationMs: number) => {
    finished = true
    try {
      const { build } = await client.call(
        BuildsService.finishBuild,
        { buildId: id, outcome: outcomes[ending], durationMs },
        // Not the signal of the build: a cancelled build has an end to tell as well.
        { signal: new AbortController().signal, timeoutMs: finishMs },
      )
      return build
    } catch {
      // The coordinator finds out by itself; the build is over either way.
      return undefined
    }
  }
  return {
    id,
    finish,
    async [Symbol.asyncDispose]() {
      if (!finished) await finish('cancelled', Math.round(performance.now()))
    },
  }
}
