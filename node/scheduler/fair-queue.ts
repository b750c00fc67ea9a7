/** The order in which a queue is served: fair between projects, by arrival inside a project. */

/** What a queue knows of the projects that have been served. Absent is 0. */
export interface ServiceRecord {
  readonly slotsInUse: ReadonlyMap<string, number>
  /** Number of the project's latest grant, counted over all projects from 1. */
  readonly lastGrant: ReadonlyMap<string, number>
}

/**
 * Next is always the project with the fewest slots in use, of two alike the one whose latest grant is longer
 * ago (so that one slot goes around), then the one that waits longer. A slot that is handed out counts at
 * once: the result is also the place of everyone in the queue, as far as it can be told.
 * @param waiting by arrival.
 */
export function serviceOrder<Waiting extends { readonly project: string }>(
  waiting: readonly Waiting[],
  { slotsInUse, lastGrant }: ServiceRecord,
): Waiting[] {
  const projects = new Map<string, { arrival: number; waiting: number }>()
  const ranked = waiting.map((entry, arrival) => {
    const project = projects.get(entry.project) ?? { arrival, waiting: 0 }
    projects.set(entry.project, project)
    const ahead = project.waiting++
    return {
      entry,
      rank: [
        // What the project will have in use when it is this entry's turn.
        (slotsInUse.get(entry.project) ?? 0) + ahead,
        // Who is served on the way there, is served later than all who were served before.
        ahead,
        lastGrant.get(entry.project) ?? 0,
        project.arrival,
      ],
    }
  })
  return ranked.sort((left, right) => compare(left.rank, right.rank)).map(({ entry }) => entry)
}

function compare(left: readonly number[], right: readonly number[]): number {
  for (const [index, value] of left.entries()) {
    const difference = value - (right[index] ?? 0)
    if (difference !== 0) return difference
  }
  return 0
}
