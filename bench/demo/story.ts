/** The demo told to a person: one block per build as it happens, and the table at the end. */
import type { BuildInfo } from '../../test/harness/index.ts'
import { formatColumns } from '../table.ts'
import type { DemoFigures, Stage } from './figures.ts'

type Step = BuildInfo['solves'][number]['steps'][number]

const titles: Record<Stage, string> = {
  cold: 'cold: nothing is known',
  unchanged: 'unchanged: the same again',
  changed: 'changed: one line of one source file',
  refilled: "refilled: BuildKit's own state deleted, Hearth's cache store kept",
  freshNode: 'fresh node: a second node joins, which has never seen the project, and builds it',
  deadPeer: 'dead peer: the first node is killed, a third one joins and builds it',
}

/** What one build did, step by step. */
export function describeBuild(stage: Stage, seconds: number, build: BuildInfo): string[] {
  const steps = build.solves.flatMap((solve) => solve.steps)
  const rows = steps.map((step) => [
    `    ${step.outcome === 'reused' ? '✔ reused' : `▸ ${step.outcome}`}`,
    shorten(step.name),
    step.outcome === 'reused' ? savedBy(step) : inSeconds(step.durationMs),
  ])
  return [
    `  ${titles[stage]}`,
    `    ${seconds.toFixed(2)} s, ${build.stepsReused} of ${build.stepsTotal} steps reused`,
    ...formatColumns(rows),
    '',
  ]
}

export function describeFigures(figures: DemoFigures): string[] {
  const { stepsReused } = figures
  const row = (name: string, seconds: number, stage: Stage) => [
    `  ${name}`,
    `${seconds.toFixed(2)} s`,
    `${stepsReused[stage].reused} of ${stepsReused[stage].total}`,
    seconds < figures.coldS ? `${(figures.coldS / seconds).toFixed(0)}x` : '',
  ]
  return [
    ...formatColumns(
      [
        ['  build', 'time', 'steps reused', 'faster than cold'],
        row('cold', figures.coldS, 'cold'),
        row('unchanged', figures.unchangedS, 'unchanged'),
        ['  … straight to BuildKit', `${figures.directUnchangedS.toFixed(2)} s`, '', ''],
        row('one line changed', figures.changedS, 'changed'),
        row("BuildKit's state deleted", figures.refilledS, 'refilled'),
        row('on a fresh node', figures.freshNodeS, 'freshNode'),
        row('on another, the first dead', figures.deadPeerS, 'deadPeer'),
      ],
      1,
    ),
    '',
  ]
}

/** Where the time went that a reused step did not take. */
function savedBy(step: Step): string {
  return step.lastRanMs >= 50 ? `saved ${inSeconds(step.lastRanMs)}` : ''
}

function inSeconds(milliseconds: number): string {
  return `${(milliseconds / 1000).toFixed(1)} s`
}

function shorten(name: string): string {
  return name.length <= 76 ? name : `${name.slice(0, 75)}…`
}
