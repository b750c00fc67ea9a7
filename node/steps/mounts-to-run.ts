/** Which cache mounts a build will want filled, as far as its plan says it. */
import type { LeaseRequest } from '../../proto/generated/hearth/v1/node.ts'

/** Ids of the mounts of steps that will run, without those that begin with empty ones. */
export function mountsToRun({
  plans,
  expectedHits,
}: Pick<LeaseRequest, 'plans' | 'expectedHits'>): string[] {
  const hits = new Set(expectedHits)
  const running = plans
    .flatMap(({ steps }) => steps)
    .filter(({ key, runsAnyway }) => !runsAnyway && !hits.has(key))
  return [...new Set(running.flatMap(({ cacheMounts }) => cacheMounts.map(({ id }) => id)))]
}
