/** When what was killed, so that it can be said which builds a kill has hit. */
import type { HearthBuild } from '../harness/index.ts'

export interface KillLog {
  /** @returns closes the entry when what was killed is there again. */
  note(kill: { project: string | 'all' }): () => void
  /** Whether a kill fell into the time of a build. */
  hit(build: {
    project: string
    startedAtMs: number
    endedAtMs: number
  }): 'hearth' | 'daemon' | undefined
  readonly counts: { hearth: number; daemon: number }
}

/** A build may still be given the daemon whose death nobody has noticed yet. */
const noticeMs = 3_000

export function createKillLog(): KillLog {
  const kills: { project: string | 'all'; fromMs: number; untilMs: number }[] = []
  const counts = { hearth: 0, daemon: 0 }
  return {
    counts,
    note({ project }) {
      counts[project === 'all' ? 'hearth' : 'daemon'] += 1
      const entry = { project, fromMs: performance.now(), untilMs: Number.POSITIVE_INFINITY }
      kills.push(entry)
      return () => {
        entry.untilMs = performance.now() + noticeMs
      }
    },
    hit({ project, startedAtMs, endedAtMs }) {
      const found = kills.filter(
        (kill) =>
          (kill.project === 'all' || kill.project === project) &&
          kill.fromMs <= endedAtMs &&
          kill.untilMs >= startedAtMs,
      )
      if (found.length === 0) return undefined
      return found.some((kill) => kill.project === 'all') ? 'hearth' : 'daemon'
    },
  }
}

/** Who has lost daemon, node and coordinator at once can say no more than that nobody is there. */
const namesLostNode = /unavailable|cannot reach|connection|SIGKILL/i
// "exit code 1" is all that is seen of a kill of the first process in the namespaces (unshare.c).
const namesDeadDaemon = /BuildKit .*(has ended|did not start): (killed by SIGKILL|exit code 1\b)/

/** Whether the error of a build that was hit tells the person why. */
export function explains(build: HearthBuild, killed: 'hearth' | 'daemon'): boolean {
  return (killed === 'hearth' ? namesLostNode : namesDeadDaemon).test(build.stderr)
}

export function lastLines(build: { stderr: string }): string {
  return build.stderr.trim().split('\n').slice(-4).join(' | ')
}
