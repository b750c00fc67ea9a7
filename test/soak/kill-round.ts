/** One kill: builds that go on until it comes, and then everything that must hold after it. */
import { setTimeout as delay } from 'node:timers/promises'
import type { SeededRandom } from '../../bench/routing/seeded-random.ts'
import type { Hearth, HearthBuild } from '../harness/index.ts'
import { explains, lastLines } from './kill-log.ts'
import { endsHearth, type KillTarget, strike } from './kill-targets.ts'
import { type KillsResult, noteOrphans } from './kills-result.ts'
import type { OrphanWatch } from './orphan-watch.ts'
import type { Builder } from './small-builds.ts'

export interface RoundDeps {
  hearth: Hearth
  people: readonly Builder[]
  random: SeededRandom
  watch: OrphanWatch
  /** Added to. */
  result: KillsResult
}

/** From the start of the builds: their steps, their answers and their exports lie in this time. */
const killWithinMs = 2_500
/** A store has few blobs a build; the kill is to come at any of them. */
const publicationsMax = 6
/** From the process to the readiness, on a machine that is not busy. */
const startMs = 1_500
/** For a client whose node has gone to end by itself. */
const clientEndMs = 60_000

export async function playRound(deps: RoundDeps, target: KillTarget): Promise<void> {
  const { hearth, people, random, watch, result } = deps
  const stop = new AbortController()
  const building = people.map((person) => buildUntil(hearth, person, stop.signal))
  await delay(random.next() * killWithinMs)
  await watch.look()
  const chosen = random.next()
  const hit = await strike(hearth, target, {
    pickDaemon: (daemons) => daemons[Math.floor(chosen * daemons.length)],
    publication: 1 + Math.floor(random.next() * publicationsMax),
    startedForMs: random.next() * startMs,
  })
  result.kills += 1
  result.byTarget[target] += 1
  stop.abort()
  const hearthEnded = endsHearth(target)
  for (const [index, builds] of (await Promise.all(building)).entries()) {
    const isHit = hearthEnded || hit?.scope === `${people[index]?.project}/main`
    for (const build of builds) noteBuild(result, build, { isHit, hearthEnded })
  }

  await watch.look()
  if (hearthEnded) {
    if (!(await restart(deps))) return
    noteOrphans(result, await watch.afterRestart(hearth.pid()))
  } else if (hit !== undefined) {
    noteOrphans(result, await watch.afterDaemon(hit))
  }
  await verify(deps)
  for (const build of await Promise.all(people.map((person) => person.build(hearth)))) {
    if (build.exitCode === 0) continue
    result.failedBuildsAfter += 1
    result.problems.push(`a build after the kill failed: ${lastLines(build)}`)
  }
}

/** Builds one thing after another; the last one is what the kill has met. */
async function buildUntil(
  hearth: Hearth,
  person: Builder,
  signal: AbortSignal,
): Promise<HearthBuild[]> {
  const builds: HearthBuild[] = []
  while (!signal.aborted) {
    const limit = new AbortController()
    const end = (): void => void setTimeout(() => limit.abort(), clientEndMs).unref()
    signal.addEventListener('abort', end, { once: true })
    builds.push(await person.build(hearth, limit.signal))
    signal.removeEventListener('abort', end)
  }
  return builds
}

function noteBuild(
  result: KillsResult,
  build: HearthBuild,
  kill: { isHit: boolean; hearthEnded: boolean },
): void {
  if (build.exitCode === 0) return
  if (!kill.isHit) {
    result.problems.push(`a build that no kill had hit failed: ${lastLines(build)}`)
    return
  }
  result.brokenBuilds += 1
  if (explains(build, kill.hearthEnded ? 'hearth' : 'daemon')) return
  result.unexplained += 1
  result.problems.push(`a build does not say that it was killed: ${lastLines(build)}`)
}

async function restart({ hearth, result }: RoundDeps): Promise<boolean> {
  try {
    await hearth.start()
  } catch (error) {
    result.failedStarts += 1
    result.problems.push(`Hearth did not start: ${error instanceof Error ? error.message : error}`)
    return false
  }
  if (/"filesRemoved":[1-9]/.test(hearth.log())) result.betweenRenameAndCommit += 1
  return true
}

async function verify({ hearth, result }: RoundDeps): Promise<void> {
  const verified = await hearth.run(['cache', 'verify', '--json'])
  if (verified.exitCode === 0) return
  const findings = countFindings(verified.stdout)
  result.torn += findings
  const said = findings > 0 ? verified.stdout : verified.stderr
  result.problems.push(`the store is not sound: ${said.trim()}`)
}

function countFindings(document: string): number {
  try {
    return (JSON.parse(document) as { findings: unknown[] }).findings.length
  } catch {
    return 0
  }
}
