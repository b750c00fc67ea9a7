/**
 * Two people who build side by side, for as long as one likes: unchanged, changed, without cache, failing,
 * cancelled. At the end nothing of it may be left on the machine, nothing in the store may be torn, and
 * memory and open files must not have grown.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { type CommandResult, type Hearth, startHearth } from '../harness/index.ts'
import { createContext, writeContext } from '../proxy/context.ts'
import { type ProcessUse, processUse } from './process-use.ts'
import { tracesOf } from './traces.ts'

export interface MixedResult {
  minutes: number
  builds: number
  byKind: Record<Kind, number>
  /** Medians over the middle and the last third of the time. */
  memoryBytes: { middle: number; last: number }
  openFiles: { middle: number; last: number }
  /** What was not as it must be; empty when all is well. */
  problems: string[]
}

const kinds = ['unchanged', 'changed', 'uncached', 'failing', 'cancelled'] as const
type Kind = (typeof kinds)[number]

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

const sampleEveryMs = 1_000
/** More than the difference between two thirds of a quiet time. */
const growthMax = 1.05

export async function soakMixed(options: {
  minutes: number
  say: (line: string) => void
}): Promise<MixedResult> {
  const { minutes, say } = options
  const names: string[] = []
  const problems: string[] = []
  const byKind: MixedResult['byKind'] = {
    unchanged: 0,
    changed: 0,
    uncached: 0,
    failing: 0,
    cancelled: 0,
  }
  const samples: ProcessUse[] = []
  {
    await using hearth = await startHearth()
    const endAtMs = performance.now() + minutes * 60_000
    const isOver = (): boolean => performance.now() >= endAtMs
    const sampling = (async () => {
      while (!isOver()) {
        const use = await processUse(hearth.pid())
        if (use !== undefined) samples.push(use)
        await delay(sampleEveryMs)
      }
    })()
    const people = ['one', 'two'].map(async (person) => {
      await using context = await createContext(dockerfile, { source: person })
      for (let turn = 0; !isOver(); turn += 1) {
        const kind = kinds[turn % kinds.length] ?? 'unchanged'
        const source = `${person} ${turn}`
        if (kind !== 'unchanged') await writeContext(context.path, { source })
        const problem = await buildOnce(hearth, kind, person, context.path)
        byKind[kind] += 1
        if (problem !== undefined) problems.push(problem)
        if (turn % 20 === 19) say(`${person}: ${turn + 1} builds, ${problems.length} problems`)
      }
    })
    await Promise.all([...people, sampling])
    names.push(hearth.dataFolder, ...(await hearth.bridges()))
    const verified = await hearth.run(['cache', 'verify', '--json'])
    if (verified.exitCode !== 0) problems.push(`the store is not sound: ${verified.stdout}`)
  }
  for (const trace of await tracesOf(names)) problems.push(`left behind: ${trace}`)

  const third = Math.floor(samples.length / 3)
  const middle = samples.slice(third, 2 * third)
  const last = samples.slice(2 * third)
  const memoryBytes = thirds(middle, last, (use) => use.memoryBytes)
  const openFiles = thirds(middle, last, (use) => use.openFiles)
  // A short run is still warming up; only a long one says something about growth.
  if (minutes >= 30) {
    for (const [what, { middle: from, last: to }] of Object.entries({ memoryBytes, openFiles })) {
      if (to > from * growthMax) problems.push(`${what} grew from ${from} to ${to}`)
    }
  }
  const builds = Object.values(byKind).reduce((sum, count) => sum + count, 0)
  return { minutes, builds, byKind, memoryBytes, openFiles, problems }
}

/** @returns what was wrong with it. */
async function buildOnce(
  hearth: Hearth,
  kind: Kind,
  person: string,
  folder: string,
): Promise<string | undefined> {
  const flags: Record<Kind, string[]> = {
    unchanged: [],
    changed: [],
    uncached: ['--no-cache-filter', 'done'],
    failing: ['--target', 'failing'],
    cancelled: ['--target', 'slow'],
  }
  const args = ['--project', `soak-${person}`, ...flags[kind], folder]
  const result =
    kind === 'cancelled'
      ? await hearth.build(args, { signal: AbortSignal.timeout(3_000) }).catch(() => undefined)
      : await hearth.build(args)
  return result === undefined ? undefined : problemOf(kind, result)
}

function problemOf(kind: Kind, result: CommandResult): string | undefined {
  const failed = result.exitCode !== 0
  if (kind === 'cancelled') return failed ? undefined : 'a build that never ends has ended well'
  if (kind === 'failing') {
    return /exit code: 3/.test(result.stderr) ? undefined : `failed otherwise: ${tail(result)}`
  }
  return failed ? `${kind}: ${tail(result)}` : undefined
}

function tail(result: CommandResult): string {
  return result.stderr.trim().split('\n').slice(-4).join(' | ')
}

function thirds(
  middle: readonly ProcessUse[],
  last: readonly ProcessUse[],
  value: (use: ProcessUse) => number,
): { middle: number; last: number } {
  return { middle: median(middle.map(value)), last: median(last.map(value)) }
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? 0
}
