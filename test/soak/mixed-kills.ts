/** Kills daemons at random as long as it is told to, and `hearth up` itself in the beginning. */
import { setTimeout as delay } from 'node:timers/promises'
import type { SeededRandom } from '../../bench/routing/seeded-random.ts'
import type { Hearth } from '../harness/index.ts'
import type { KillLog } from './kill-log.ts'
import { type KillTarget, strike } from './kill-targets.ts'
import type { OrphanWatch } from './orphan-watch.ts'

export interface RandomKills {
  /** Resolves at once, or when a killed Hearth is up again. */
  whenUp(): Promise<void>
  /** Rejects when Hearth does not start again. */
  readonly done: Promise<void>
}

/** The part of the time in which `hearth up` is killed. */
const hearthKillsUntil = 1 / 5
/** Times that `hearth up` is killed in it, at the most: each of its lives is to see some builds. */
const hearthKillsMax = 6
/** Between two kills of daemons, on average. */
const gap = { atLeastMs: 12_000, atMostMs: 60_000, ofTheTime: 1 / 40 }

export function killAtRandom(
  deps: { hearth: Hearth; kills: KillLog; random: SeededRandom; watch: OrphanWatch },
  time: { startMs: number; endMs: number },
): RandomKills {
  const { hearth, kills, random, watch } = deps
  const lengthMs = time.endMs - time.startMs
  const meanGapMs = Math.min(gap.atMostMs, Math.max(gap.atLeastMs, lengthMs * gap.ofTheTime))
  const hearthKillsUntilMs = time.startMs + lengthMs * hearthKillsUntil
  const aim = { publication: 1, startedForMs: 500 }
  let restarted = Promise.resolve()

  async function killDaemon(): Promise<void> {
    await watch.look()
    const targets: KillTarget[] = ['buildkitd', 'buildkitd', 'first process', 'starter']
    const target = random.pick(targets)
    const chosen = random.next()
    const note = { over: (): void => {} }
    await strike(hearth, target, {
      pickDaemon(daemons) {
        const daemon = daemons[Math.floor(chosen * daemons.length)]
        if (daemon !== undefined) {
          note.over = kills.note({ project: daemon.scope.split('/')[0] ?? daemon.scope })
        }
        return daemon
      },
      ...aim,
    })
    note.over()
  }

  async function killHearth(): Promise<void> {
    const over = kills.note({ project: 'all' })
    restarted = (async () => {
      await strike(hearth, random.pick(['hearth', 'both', 'starting', 'deaf']), {
        pickDaemon: (daemons) => daemons[0],
        ...aim,
      })
      await watch.look()
      await hearth.start()
      over()
    })()
    await restarted
  }

  async function killDaemons(): Promise<void> {
    for (;;) {
      const waitMs = random.gap(meanGapMs)
      // The last builds are to end in peace.
      if (performance.now() + waitMs > time.endMs) return
      await delay(waitMs)
      await restarted
      await killDaemon()
    }
  }

  async function killHearths(): Promise<void> {
    const spanMs = hearthKillsUntilMs - time.startMs
    const count = Math.min(hearthKillsMax, Math.max(1, Math.floor(spanMs / (2 * gap.atMostMs))))
    const moments = Array.from({ length: count }, () => time.startMs + random.next() * spanMs)
    for (const moment of moments.sort((one, other) => one - other)) {
      await delay(Math.max(0, moment - performance.now()))
      await killHearth()
    }
  }

  return {
    whenUp: () => restarted,
    done: Promise.all([killDaemons(), killHearths()]).then(() => {}),
  }
}
