/**
 * Kills without warning, one a round, at moments that only a seed knows, while two people build. After each:
 * the next start works, nothing in the store is torn, nothing that was killed has left a trace on the machine,
 * and the next builds succeed.
 */
import { type SeededRandom, seededRandom } from '../../bench/routing/seeded-random.ts'
import { startHearth } from '../harness/index.ts'
import { playRound } from './kill-round.ts'
import { type KillTarget, killTargets } from './kill-targets.ts'
import { emptyResult, type KillsResult, noteOrphans } from './kills-result.ts'
import { createOrphanWatch } from './orphan-watch.ts'
import { createBuilder } from './small-builds.ts'

/** How often each comes in a row of rounds; the rest of a row is the same in another order. */
const weights: Record<KillTarget, number> = {
  hearth: 2,
  publication: 3,
  buildkitd: 2,
  'first process': 1,
  starter: 1,
  both: 1,
  starting: 2,
  deaf: 1,
}

export async function soakKills(options: {
  rounds: number
  seed: number
  say: (line: string) => void
}): Promise<KillsResult> {
  const { rounds, seed, say } = options
  const random = seededRandom(seed)
  const result = emptyResult(seed)
  await using stack = new AsyncDisposableStack()
  const people = [stack.use(await createBuilder('one')), stack.use(await createBuilder('two'))]
  const orphans = await (async () => {
    await using hearth = await startHearth()
    const watch = createOrphanWatch(hearth.dataFolder)
    let targets: KillTarget[] = []
    for (let round = 1; round <= rounds; round += 1) {
      if (targets.length === 0) targets = shuffled(random)
      const target = targets.pop() ?? 'hearth'
      const before = result.problems.length
      const startedAtMs = performance.now()
      await playRound({ hearth, people, random, watch, result }, target)
      const found = result.problems.slice(before)
      const seconds = ((performance.now() - startedAtMs) / 1000).toFixed(1)
      say(`round ${round}, ${target}, ${seconds} s: ${found.join('; ') || 'well'}`)
      if (!hearth.running()) break
    }
    await watch.look()
    await hearth.stop()
    return watch.atTheEnd()
  })()
  noteOrphans(result, orphans)
  return result
}

function shuffled(random: SeededRandom): KillTarget[] {
  const row = killTargets.flatMap((target) => Array<KillTarget>(weights[target]).fill(target))
  return row
    .map((target) => ({ target, at: random.next() }))
    .sort((one, other) => one.at - other.at)
    .map(({ target }) => target)
}
