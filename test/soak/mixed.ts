/**
 * Two people who build side by side, for as long as one likes: unchanged, changed, without cache, failing,
 * cancelled; while somebody kills daemons, and now and then the whole Hearth, by SIGKILL. At the end nothing
 * of it may be left on the machine, nothing in the store may be torn, no build may have failed that no kill had
 * hit, and memory and open files must not have grown.
 *
 * Growth is measured on one life of the `hearth up` process: it is killed only in the first fifth of the
 * time, so that its last life is warm when the middle third begins. Daemons are killed from the beginning to
 * the end: what each of their deaths leaves behind in Hearth would show as growth.
 */
import { type SeededRandom, seededRandom } from '../../bench/routing/seeded-random.ts'
import { startHearth } from '../harness/index.ts'
import { type Growth, sampleGrowth } from './growth.ts'
import { createKillLog, type KillLog } from './kill-log.ts'
import { countedThings, countMachine, type MachineCounts } from './machine-counts.ts'
import { killAtRandom } from './mixed-kills.ts'
import { type BuildKind, buildAllKinds, buildKinds, type Tally } from './mixed-people.ts'
import { createOrphanWatch } from './orphan-watch.ts'

export interface MixedResult extends Growth, Record<keyof MachineCounts, BeforeAndAfter> {
  minutes: number
  seed: number
  builds: number
  byKind: Record<BuildKind, number>
  kills: { hearth: number; daemon: number }
  /** Builds that a kill broke off; each has said so. */
  brokenBuilds: number
  /** What was not as it must be; empty when all is well. */
  problems: string[]
}

/** Of the whole machine, other people's included: equal when nobody else works on it. */
interface BeforeAndAfter {
  before: number
  after: number
}

/** More than the difference between two thirds of a quiet time. */
const growthMax = 1.05
/** A shorter run is still warming up; only a long one says something about growth. */
const growthMinutesMin = 10

export async function soakMixed(options: {
  minutes: number
  seed: number
  say: (line: string) => void
}): Promise<MixedResult> {
  const { minutes, seed } = options
  const kills = createKillLog()
  const tally = emptyTally()
  const before = await countMachine()
  const { growth, traces } = await useHearth({
    ...options,
    random: seededRandom(seed),
    kills,
    tally,
  })
  const after = await countMachine()
  const { problems, byKind, broken } = tally
  for (const trace of traces) problems.push(`left behind: ${trace}`)
  if (minutes >= growthMinutesMin) {
    for (const [what, { middle, last }] of Object.entries(growth)) {
      if (last > middle * growthMax) problems.push(`${what} grew from ${middle} to ${last}`)
    }
  }
  return {
    minutes,
    seed,
    builds: Object.values(byKind).reduce((sum, count) => sum + count, 0),
    byKind,
    kills: kills.counts,
    brokenBuilds: broken,
    ...growth,
    ...compare(before, after),
    problems,
  }
}

/** From its start to the moment when nothing of it should be left. */
async function useHearth(run: {
  minutes: number
  random: SeededRandom
  kills: KillLog
  tally: Tally
  say: (line: string) => void
}): Promise<{ growth: Growth; traces: string[] }> {
  const { minutes, random, kills, tally, say } = run
  await using hearth = await startHearth()
  const watch = createOrphanWatch(hearth.dataFolder)
  const startMs = performance.now()
  const time = { startMs, endMs: startMs + minutes * 60_000 }
  const isOver = (): boolean => performance.now() >= time.endMs
  const killer = killAtRandom({ hearth, kills, random, watch }, time)
  const people = ['one', 'two'].map((name) =>
    buildAllKinds({ hearth, kills, whenUp: killer.whenUp }, { name, isOver, tally, say }),
  )
  const growing = sampleGrowth(() => hearth.pid(), time)
  const [growth] = await Promise.all([growing, killer.done, ...people])
  const verified = await hearth.run(['cache', 'verify', '--json'])
  if (verified.exitCode !== 0) tally.problems.push(`the store is not sound: ${verified.stdout}`)
  await watch.look()
  await hearth.stop()
  return { growth, traces: await watch.atTheEnd() }
}

function emptyTally(): Tally {
  const byKind = Object.fromEntries(buildKinds.map((kind) => [kind, 0])) as Tally['byKind']
  return { byKind, broken: 0, problems: [] }
}

function compare(
  before: MachineCounts,
  after: MachineCounts,
): Record<keyof MachineCounts, BeforeAndAfter> {
  return Object.fromEntries(
    countedThings.map((name) => [name, { before: before[name], after: after[name] }]),
  ) as Record<keyof MachineCounts, BeforeAndAfter>
}
