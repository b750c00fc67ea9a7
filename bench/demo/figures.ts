/** What the demo found out, and what of it must hold. */
import type { BuildInfo } from '../../test/harness/index.ts'
import { rounded } from '../statistics.ts'

export const stages = ['cold', 'unchanged', 'changed', 'refilled', 'freshNode', 'deadPeer'] as const
export type Stage = (typeof stages)[number]

export interface StepsReused {
  reused: number
  total: number
}

/** The one object that `--json` prints. Seconds are what the client waited. */
export interface DemoFigures {
  coldS: number
  unchangedS: number
  changedS: number
  refilledS: number
  /** On a second node that has never seen the project. */
  freshNodeS: number
  /** On a third such node, after the first one was killed. */
  deadPeerS: number
  /** The unchanged build by buildx straight to the same buildkitd, in turns with Hearth's. */
  directUnchangedS: number
  stepsReused: Record<Stage, StepsReused>
}

/** How much slower than straight to BuildKit an unchanged build may be. */
const unchangedExtraMaxS = 0.5
/** How much of the cold build's time a node may need whose BuildKit knows nothing, when the cache is to be had. */
const refilledShareMax = 0.6

export function demoFigures(
  seconds: Record<Stage | 'directUnchanged', number>,
  builds: Record<Stage, BuildInfo>,
): DemoFigures {
  const reusedIn = (stage: Stage): StepsReused => ({
    reused: builds[stage].stepsReused,
    total: builds[stage].stepsTotal,
  })
  return {
    coldS: rounded(seconds.cold),
    unchangedS: rounded(seconds.unchanged),
    changedS: rounded(seconds.changed),
    refilledS: rounded(seconds.refilled),
    freshNodeS: rounded(seconds.freshNode),
    deadPeerS: rounded(seconds.deadPeer),
    directUnchangedS: rounded(seconds.directUnchanged),
    stepsReused: {
      cold: reusedIn('cold'),
      unchanged: reusedIn('unchanged'),
      changed: reusedIn('changed'),
      refilled: reusedIn('refilled'),
      freshNode: reusedIn('freshNode'),
      deadPeer: reusedIn('deadPeer'),
    },
  }
}

/** What does not hold, a sentence each; empty when all is well. */
export function brokenPromises(figures: DemoFigures): string[] {
  const { coldS, unchangedS, changedS, refilledS, freshNodeS, deadPeerS } = figures
  const { directUnchangedS, stepsReused } = figures
  const broken: string[] = []
  if (unchangedS > directUnchangedS + unchangedExtraMaxS) {
    broken.push(
      `unchanged took ${unchangedS} s, more than ${directUnchangedS} s straight to BuildKit plus ${unchangedExtraMaxS} s`,
    )
  }
  if (changedS >= coldS) broken.push(`changed took ${changedS} s, no less than cold: ${coldS} s`)
  const refills = { refilled: refilledS, freshNode: freshNodeS, deadPeer: deadPeerS }
  for (const [stage, seconds] of Object.entries(refills)) {
    if (seconds <= refilledShareMax * coldS) continue
    broken.push(`${stage} took ${seconds} s, more than ${refilledShareMax} of cold: ${coldS} s`)
  }
  for (const stage of ['unchanged', 'refilled', 'freshNode', 'deadPeer'] as const) {
    const { reused, total } = stepsReused[stage]
    if (total === 0 || reused < total) {
      broken.push(`${stage} reused ${reused} of ${total} steps, not all`)
    }
  }
  return broken
}
