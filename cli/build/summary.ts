/** The last lines of a build: what it took, what was reused, why it failed, and where to look further. */
import type { Build } from '../../proto/generated/hearth/v1/build.ts'
import { formatDuration } from '../units.ts'

export type BuildEnding = 'succeeded' | 'failed' | 'cancelled'

/**
 * @param build undefined when no report came.
 * @param failure lines that say why it failed.
 */
export function formatSummary(
  ending: BuildEnding,
  durationMs: number,
  build: Build | undefined,
  failure: readonly string[] = [],
): string[] {
  const what = { succeeded: 'built in', failed: 'failed after', cancelled: 'cancelled after' }
  const first = [`hearth: ${what[ending]} ${formatDuration(durationMs)}`]
  if (build !== undefined && build.stepsTotal > 0) {
    first.push(`${build.stepsReused} of ${build.stepsTotal} steps reused`)
    if (build.savedMs > 0) first.push(`${formatDuration(build.savedMs)} saved`)
  }
  const lines = [first.join(', '), ...failure]
  if (build !== undefined) lines.push(`hearth: more with "hearth build-info ${build.id}"`)
  return lines
}
