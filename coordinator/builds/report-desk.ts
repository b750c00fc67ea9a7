/**
 * Where nodes' reports come in. A report replaces what was said before of the solves with the same ref, so
 * that a node may send it as often as it likes. Steps that were reused learn here what they took when they
 * last ran in this project, and steps that ran are remembered for that.
 */
import { HearthError } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import { makeScope, type Scope } from '../../core/scope.ts'
import {
  type BuildReport,
  type SolveReport,
  type Step,
  StepOutcome,
} from '../../proto/generated/hearth/v1/build.ts'
import type { Rates } from '../routing/index.ts'
import type { BuildRecord, State } from '../state/index.ts'
import { outcomeOfSolves, spanOfSolves } from './outcome.ts'
import { sumSolves } from './to-build.ts'

export interface ReportDesk {
  /** @throws HearthError `invalid-input`, `forbidden` when the build is of another scope. */
  take(nodeId: string, report: BuildReport): void
}

const buildIdPattern = /^[a-z0-9-]{1,64}$/
const refCharactersMax = 200

export function createReportDesk(
  deps: { state: State; rates?: Pick<Rates, 'note'>; log: Logger },
  options: { now: () => number },
): ReportDesk {
  const { state, log } = deps

  return {
    take(nodeId, report) {
      const scope = checkReport(nodeId, report)
      state.write(() => {
        const build = state.builds.get(report.buildId) ?? newBuild(report, scope, options.now())
        if (build.project !== scope.project || build.line !== scope.line) {
          throw new HearthError('forbidden', `the build ${build.id} is of another scope`)
        }
        if (state.builds.get(build.id) === undefined) state.builds.add(build)
        for (const solve of report.solves) {
          const steps = solve.steps.map((step) => complete(step, scope.project))
          if (!state.builds.putSolve(build.id, nodeId, { ...solve, steps })) {
            log.warn({ build: build.id, node: nodeId }, 'too many solves: one was not kept')
          }
        }
        summarise(build, nodeId)
      })
      for (const transfer of report.solves.flatMap(({ transfers }) => transfers)) {
        deps.rates?.note({ ...transfer, nodeId })
      }
    },
  }

  function complete(step: Step, project: string): Step {
    const { operationDigest, outcome, durationMs } = step
    if (operationDigest === '') return step
    if (outcome === StepOutcome.STEP_OUTCOME_RAN) {
      state.steps.put(project, operationDigest, durationMs, options.now())
      return { ...step, lastRanMs: durationMs }
    }
    return { ...step, lastRanMs: state.steps.lastRanMs(project, operationDigest) }
  }

  function summarise(build: BuildRecord, nodeId: string): void {
    const solves = state.builds.solves(build.id)
    state.builds.update(build.id, {
      ...sumSolves(solves),
      nodeIds: [...new Set([...build.nodeIds, nodeId])],
      ...(hasClient(build) ? {} : endOf(solves, options.now())),
    })
  }
}

/** A build that was opened here has somebody who will finish it; one only heard of has not. */
function hasClient(build: BuildRecord): boolean {
  return build.clientPublicKey.byteLength > 0
}

function endOf(solves: readonly SolveReport[], nowMs: number): Partial<BuildRecord> {
  const span = spanOfSolves(solves) ?? { startedAtMs: nowMs, endedAtMs: nowMs }
  return {
    outcome: outcomeOfSolves(solves),
    finishedAtMs: span.endedAtMs,
    durationMs: Math.max(0, span.endedAtMs - span.startedAtMs),
  }
}

function checkReport(nodeId: string, report: BuildReport): Scope {
  const { buildId, scope, solves } = report
  if (report.nodeId !== '' && report.nodeId !== nodeId) {
    throw new HearthError('forbidden', `the report is of the node ${report.nodeId.slice(0, 60)}`)
  }
  if (!buildIdPattern.test(buildId)) {
    throw new HearthError('invalid-input', `"${buildId.slice(0, 64)}" is no id of a build`)
  }
  const unnamed = solves.some(({ ref }) => ref === '' || ref.length > refCharactersMax)
  if (unnamed || scope === undefined) {
    throw new HearthError('invalid-input', 'the report lacks a scope, or a solve its ref')
  }
  return makeScope(scope.project, scope.line)
}

/** Made on a node with a standby certificate, while the coordinator was away. */
function newBuild(report: BuildReport, scope: Scope, nowMs: number): BuildRecord {
  const openedAtMs = Math.min(nowMs, spanOfSolves(report.solves)?.startedAtMs ?? nowMs)
  return {
    id: report.buildId,
    ...scope,
    command: '',
    platforms: [],
    openedAtMs: Math.max(0, openedAtMs),
    clientPublicKey: new Uint8Array(),
    certificateUntilMs: nowMs,
    nodeIds: [],
    outcome: 0,
    durationMs: 0,
    stepsReused: 0,
    stepsTotal: 0,
    savedMs: 0,
  }
}
