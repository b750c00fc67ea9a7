/** `hearth build-info`: one build, step by step. */

import { HearthError } from '../../core/errors.ts'
import type { Build, Failure, SolveReport, Step } from '../../proto/generated/hearth/v1/build.ts'
import { StepOutcome } from '../../proto/generated/hearth/v1/build.ts'
import { BuildsService } from '../../proto/generated/hearth/v1/coordinator.ts'
import { buildDocument, buildWord, causeWord, keepWord, stepWord } from '../build-document.ts'
import { askCoordinator } from '../client-verb.ts'
import { addClientFlags, type CommonFlags, runFlags } from '../flags.ts'
import { formatTable } from '../table.ts'
import { answer, type Terminal, type Verb } from '../terminal.ts'
import { formatBytes, formatDuration } from '../units.ts'

export const verb: Verb = {
  run: (args, terminal) =>
    runFlags('build-info', args, terminal, (command, run) => {
      addClientFlags(command)
        .description('Shows one build: its steps with Dockerfile lines, durations and bytes moved.')
        .argument('<id>', 'the id of the build, or the beginning of it')
        .action((id: string, flags: CommonFlags) => run(showBuild(terminal, id, flags)))
    }),
}

async function showBuild(terminal: Terminal, id: string, flags: CommonFlags): Promise<undefined> {
  const { build } = await askCoordinator(terminal, flags, ({ client, signal }) =>
    client.call(BuildsService.getBuild, { buildId: id }, { signal }),
  )
  if (build === undefined) throw new HearthError('not-found', `there is no build "${id}"`)
  const json = flags.json === true
  answer(terminal, { json }, buildDocument(build), describe(build))
}

function describe(build: Build): string[] {
  return [
    `build     ${build.id} (${build.scope?.project}/${build.scope?.line})`,
    `command   ${build.command}`,
    `opened    ${build.openedAt?.toISOString() ?? '-'} on ${build.nodeIds.join(', ') || 'no node'}`,
    `outcome   ${buildWord(build.outcome)} after ${formatDuration(build.durationMs)}`,
    ...describeFailure(build.failure),
    `reused    ${build.stepsReused} of ${build.stepsTotal} steps, ${formatDuration(build.savedMs)} saved`,
    ...build.solves.flatMap(describeSolve),
  ]
}

function describeFailure(failure: Failure | undefined): string[] {
  if (failure === undefined) return []
  const advice = failure.advice === '' ? '' : `; ${failure.advice}`
  return [`cause     ${causeWord(failure.cause)}: ${failure.text}${advice}`]
}

function describeSolve(solve: SolveReport): string[] {
  const kept = `${formatBytes(solve.cacheBytesKept)} (${formatBytes(solve.cacheBytesLinked)} linked)`
  const reason = solve.keepReason === '' ? '' : `: ${solve.keepReason}`
  return [
    '',
    `solve     ${solve.ref}: ${buildWord(solve.outcome)} after ${formatDuration(solve.durationMs)}`,
    ...(solve.error === '' ? [] : [`error     ${solve.error}`]),
    `cache     read ${formatBytes(solve.cacheBytesRead)}, added ${kept}, ${keepWord(solve.keep)}${reason}`,
    `client    sent ${formatBytes(solve.clientBytesIn)}, received ${formatBytes(solve.clientBytesOut)}`,
    ...(solve.replayed ? ['replayed  without the cache: a blob of it could not be delivered'] : []),
    ...(solve.steps.length === 0 ? [] : ['', ...describeSteps(solve.steps)]),
  ]
}

function describeSteps(steps: readonly Step[]): string[] {
  return formatTable<Step>(
    [
      { title: 'STEP', value: (step) => stepWord(step.outcome) },
      { title: 'TIME', value: (step) => formatDuration(step.durationMs), align: 'right' },
      { title: 'SAVED', value: savedBy, align: 'right' },
      { title: 'LINES', value: linesOf },
      { title: 'NAME', value: (step) => step.name },
    ],
    steps,
  )
}

/** What a reused step took when it last ran. */
function savedBy(step: Step): string {
  const reused = step.outcome === StepOutcome.STEP_OUTCOME_REUSED
  return reused && step.lastRanMs > 0 ? formatDuration(step.lastRanMs) : '-'
}

function linesOf(step: Step): string {
  if (step.firstLine === 0) return '-'
  const lines =
    step.lastLine > step.firstLine ? `${step.firstLine}-${step.lastLine}` : `${step.firstLine}`
  return `${step.dockerfile || 'Dockerfile'}:${lines}`
}
