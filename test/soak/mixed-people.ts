/** Somebody who builds all kinds of things, one after another, and says what did not go as it must. */
import type { CommandResult, Hearth } from '../harness/index.ts'
import { createContext, writeContext } from '../proxy/context.ts'
import { explains, type KillLog, lastLines } from './kill-log.ts'

export const buildKinds = ['unchanged', 'changed', 'uncached', 'failing', 'cancelled'] as const
export type BuildKind = (typeof buildKinds)[number]

const dockerfile = [
  'RUN echo tools > /tools',
  'COPY source /source',
  'RUN --mount=type=cache,target=/kept cat /source >> /kept/all; sleep 0.5; cp /source /made',
  'FROM base AS failing',
  'COPY source /source',
  'RUN cat /source; exit 3',
  'FROM base AS slow',
  'COPY source /source',
  'RUN cat /source; sleep 600',
  'FROM base AS done',
  'COPY --from=base /made /made',
].join('\n')

const flags: Record<BuildKind, string[]> = {
  unchanged: [],
  changed: [],
  uncached: ['--no-cache-filter', 'done'],
  failing: ['--target', 'failing'],
  cancelled: ['--target', 'slow'],
}
const cancelAfterMs = 3_000

export interface Tally {
  byKind: Record<BuildKind, number>
  /** Builds that a kill has broken off. */
  broken: number
  problems: string[]
}

/** Builds until the time is over. */
export async function buildAllKinds(
  deps: { hearth: Hearth; kills: KillLog; whenUp: () => Promise<void> },
  person: { name: string; isOver: () => boolean; tally: Tally; say: (line: string) => void },
): Promise<void> {
  const { name, tally } = person
  await using context = await createContext(dockerfile, { source: name })
  const project = `soak-${name}`
  for (let turn = 0; !person.isOver(); turn += 1) {
    await deps.whenUp()
    const kind = buildKinds[turn % buildKinds.length] ?? 'unchanged'
    if (kind !== 'unchanged') await writeContext(context.path, { source: `${name} ${turn}` })
    const startedAtMs = performance.now()
    const args = ['--project', project, ...flags[kind], context.path]
    // A cancelled build is asked to stop as Ctrl-C would, not broken off.
    const result = await deps.hearth.build(
      args,
      kind === 'cancelled' ? { interrupt: AbortSignal.timeout(cancelAfterMs) } : {},
    )
    tally.byKind[kind] += 1
    const problem = problemOf(kind, result)
    if (problem !== undefined) {
      const killed = deps.kills.hit({ project, startedAtMs, endedAtMs: performance.now() })
      if (killed !== undefined) tally.broken += 1
      if (killed === undefined) tally.problems.push(problem)
      else if (!explains(result, killed)) tally.problems.push(`without the cause, ${problem}`)
    }
    if (turn % 20 === 19) {
      person.say(`${name}: ${turn + 1} builds, ${tally.problems.length} problems so far`)
    }
  }
}

/** What was wrong with a build of this kind that nobody disturbed. */
function problemOf(kind: BuildKind, result: CommandResult): string | undefined {
  const failed = result.exitCode !== 0
  if (kind === 'cancelled') {
    return failed && (/cancel/i.test(result.stderr) || hadNotBegun(result))
      ? undefined
      : `${kind} otherwise: ${lastLines(result)}`
  }
  if (kind === 'failing') {
    return /exit code: 3/.test(result.stderr)
      ? undefined
      : `${kind} otherwise: ${lastLines(result)}`
  }
  return failed ? `${kind}: ${lastLines(result)}` : undefined
}

/** On a busy machine the interrupt may come before the command has said, or could hear, anything. */
function hadNotBegun({ stdout, stderr, exitCode }: CommandResult): boolean {
  return exitCode === -1 && stdout === '' && stderr === ''
}
