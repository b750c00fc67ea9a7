/** Says how a build ended: a few lines for people, or the one JSON document. */
import type { Build, Failure } from '../../proto/generated/hearth/v1/build.ts'
import { failureDocument } from '../build-document.ts'
import type { Terminal } from '../terminal.ts'
import { failureLine } from './find-failure.ts'
import type { BuildSite } from './site.ts'
import { type BuildEnding, formatSummary } from './summary.ts'

export interface EndedBuild {
  readonly site: BuildSite
  readonly project: string
  readonly ending: BuildEnding
  readonly exitCode: number
  readonly durationMs: number
  /** What the coordinator answered; undefined without one, or when it did not answer in time. */
  readonly build: Build | undefined
  readonly failure: Failure | undefined
}

export function reportBuild(
  terminal: Terminal,
  how: { quiet: boolean; json: boolean },
  ended: EndedBuild,
): void {
  const { site, build, ending, durationMs } = ended
  if (!how.quiet) {
    for (const text of formatSummary(ending, durationMs, build, failureLine(ended.failure)))
      terminal.note(text)
  }
  if (!how.json) return
  const document = {
    buildId: site.type === 'placed' ? site.buildId : null,
    project: ended.project,
    builder: site.type,
    outcome: ending,
    exitCode: ended.exitCode,
    durationMs,
    stepsReused: build?.stepsReused ?? null,
    stepsTotal: build?.stepsTotal ?? null,
    savedMs: build?.savedMs ?? null,
    nodeIds: build?.nodeIds ?? [],
    failure: failureDocument(ended.failure),
  }
  terminal.print(`${JSON.stringify(document, undefined, 2)}\n`)
}
