/** Whom a kill hits, and at which moment. Everything by SIGKILL, as a power cut or the kernel would. */
import { existsSync, watch } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { findProgram } from '../../core/programs.ts'
import { childrenOf, descendantsRunning } from '../../node/buildkit-runner/daemon/processes.ts'
import { type ClaimedDaemon, claimsOf, type Hearth } from '../harness/index.ts'

/**
 * hearth          the `hearth up` process
 * publication     the same, between the rename of a blob's file and the commit of its row, or close by
 * buildkitd       the daemon itself
 * first process   of the daemon's pid namespace: the kernel takes all others with it
 * starter         the process outside the namespaces that waits for the first one
 * both            the `hearth up` process and a daemon in the same moment
 * starting        the `hearth up` process, and the next one while it starts and cleans up
 * deaf            the `hearth up` process while a daemon is stopped and hears nothing of it
 */
export const killTargets = [
  'hearth',
  'publication',
  'buildkitd',
  'first process',
  'starter',
  'both',
  'starting',
  'deaf',
] as const
export type KillTarget = (typeof killTargets)[number]

export function endsHearth(target: KillTarget): boolean {
  return ['hearth', 'publication', 'both', 'starting', 'deaf'].includes(target)
}

/** How long to wait for a daemon, or a blob, to appear before the kill goes elsewhere. */
const appearMs = 5_000

export interface Aim {
  /** Which of the daemons that are running now. */
  pickDaemon(daemons: readonly ClaimedDaemon[]): ClaimedDaemon | undefined
  /** Before which blob's row the kill comes: the first, the second, … */
  publication: number
  /** How far the next start comes before it is killed, too. */
  startedForMs: number
}

/** @returns the daemon that was hit, if one was. */
export async function strike(
  hearth: Hearth,
  target: KillTarget,
  aim: Aim,
): Promise<ClaimedDaemon | undefined> {
  if (target === 'publication') await atPublication(hearth, aim.publication)
  if (target === 'hearth' || target === 'publication' || target === 'starting') {
    await hearth.kill()
    if (target === 'starting') await hearth.startAndKill(aim.startedForMs)
    return undefined
  }
  const daemon = await appeared(hearth, aim)
  if (daemon?.pid !== undefined) {
    for (const pid of await victims(daemon.pid, target)) {
      kill(pid, target === 'deaf' ? 'SIGSTOP' : 'SIGKILL')
    }
  }
  if (endsHearth(target)) await hearth.kill()
  return daemon
}

async function victims(starter: number, target: KillTarget): Promise<number[]> {
  if (target === 'starter') return [starter]
  if (target === 'first process') return (await childrenOf(starter)).slice(0, 1)
  const daemons = await descendantsRunning(starter, await findProgram('buildkitd'))
  return daemons.slice(0, 1).map(({ pid }) => pid)
}

async function appeared(hearth: Hearth, aim: Aim): Promise<ClaimedDaemon | undefined> {
  const deadlineMs = performance.now() + appearMs
  for (;;) {
    const daemons = (await claimsOf(hearth.dataFolder)).flatMap((claims) => claims.daemons)
    const daemon = aim.pickDaemon(daemons.filter(({ pid }) => pid !== undefined))
    if (daemon !== undefined || performance.now() > deadlineMs) return daemon
    await delay(20)
  }
}

/**
 * Kills in the moment in which a temporary file of the cache store has been given its final name, which is
 * when it vanishes from the folder of temporary files: its row has yet to be committed.
 */
async function atPublication(hearth: Hearth, publication: number): Promise<void> {
  const folder = path.join(hearth.dataFolder, 'node/cache-store/tmp')
  await mkdir(folder, { recursive: true })
  const limit = AbortSignal.timeout(appearMs)
  await new Promise<void>((resolve) => {
    let seen = 0
    const watcher = watch(folder, { signal: limit }, (event, name) => {
      if (event !== 'rename' || name === null || existsSync(path.join(folder, name))) return
      seen += 1
      if (seen < publication) return
      // At once, with nothing awaited before it: the commit takes a few milliseconds.
      kill(hearth.pid(), 'SIGKILL')
      watcher.close()
    })
    watcher.on('close', resolve)
    watcher.on('error', () => resolve())
  })
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch {
    // Ended by itself in this moment.
  }
}
