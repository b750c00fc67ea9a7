/** What a soak of kills has found. */
import { type KillTarget, killTargets } from './kill-targets.ts'

export interface KillsResult {
  kills: number
  /** Blobs that `hearth cache verify` found damaged. */
  torn: number
  /** Things on the machine whose owner had been killed, each counted once. */
  orphans: number
  /** Of the builds that followed a kill, those that did not succeed. */
  failedBuildsAfter: number
  seed: number
  /** Of the starts that followed the kill of a `hearth up`, those that did not work. */
  failedStarts: number
  /** Builds that a kill broke off, and those of them whose error does not tell why. */
  brokenBuilds: number
  unexplained: number
  /** Kills that came between the rename of a file and the commit of its row. */
  betweenRenameAndCommit: number
  byTarget: Record<KillTarget, number>
  /** What was not as it must be, in words; empty when all is well. */
  problems: string[]
}

/** Each thing counts once, however often it is seen. */
export function noteOrphans(result: KillsResult, traces: readonly string[]): void {
  for (const trace of traces) {
    const problem = `left behind: ${trace}`
    if (result.problems.includes(problem)) continue
    result.orphans += 1
    result.problems.push(problem)
  }
}

export function emptyResult(seed: number): KillsResult {
  return {
    kills: 0,
    torn: 0,
    orphans: 0,
    failedBuildsAfter: 0,
    seed,
    failedStarts: 0,
    brokenBuilds: 0,
    unexplained: 0,
    betweenRenameAndCommit: 0,
    byTarget: Object.fromEntries(killTargets.map((target) => [target, 0])) as Record<
      KillTarget,
      number
    >,
    problems: [],
  }
}
