/** One buildkitd process: started, watched, stopped. */
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { constants } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import { HearthError } from '../../../core/errors.ts'
import type { Launch } from './launch.ts'
import { identifyProcess, killWithChildren, type ProcessIdentity } from './processes.ts'

export interface DaemonProcess {
  readonly identity: ProcessIdentity
  /** How it ended, for people: "killed by SIGKILL", "exit code 1". Never rejects. */
  readonly exited: Promise<string>
  /** Resolves when its namespaces are there: it then waits for `begin`. Never resolves when it ends before. */
  readonly inside: Promise<void>
  /** Lets it become buildkitd: its network is there. */
  begin(): void
  /** TERM, and KILL for whatever is left of it after `limitMs`. Resolves when nothing is left. */
  stop(limitMs: number): Promise<void>
  /** KILL, for a process that no longer hears anything. Resolves when nothing is left. */
  kill(): Promise<void>
}

/** @throws HearthError `environment` when it cannot even be started. */
export async function spawnDaemon(launch: Launch, logFile: string): Promise<DaemonProcess> {
  const log = openSync(logFile, 'a', 0o600)
  let child: ChildProcess
  try {
    child = spawn(launch.program, launch.args, {
      env: launch.env,
      cwd: '/',
      stdio: ['pipe', log, log, 'pipe'],
      // In a session of its own: Ctrl-C in a terminal is for us, and we stop daemons in order.
      detached: true,
    })
  } finally {
    closeSync(log)
  }
  // An end of the daemon shows by its exit.
  child.stdin?.on('error', () => {})
  const exited = new Promise<string>((resolve) => {
    child.on('exit', (exitCode, signal) => resolve(describeExit(exitCode, signal)))
    child.on('error', (error) => resolve(error.message))
  })
  const inside = new Promise<void>((resolve) => {
    child.stdio[3]?.once('data', () => resolve())
  })
  const identity = child.pid === undefined ? undefined : await identifyProcess(child.pid)
  if (identity === undefined) {
    throw new HearthError('environment', `cannot start BuildKit: ${await exited}`)
  }
  return {
    identity,
    exited,
    inside,
    begin: () => void child.stdin?.write('begin\n'),
    async stop(limitMs) {
      child.stdin?.end()
      const limit = new AbortController()
      const overdue = delay(limitMs, 'overdue', { signal: limit.signal }).catch(() => 'ended')
      const first = await Promise.race([exited, overdue])
      limit.abort()
      if (first === 'overdue') await killWithChildren(identity.pid)
      await exited
    },
    async kill() {
      await killWithChildren(identity.pid)
      await exited
    },
  }
}

/** A shell reports a death by signal as 128 and the signal's number. */
function describeExit(exitCode: number | null, signal: NodeJS.Signals | null): string {
  if (signal !== null) return `killed by ${signal}`
  const number = (exitCode ?? 0) - 128
  const name = Object.entries(constants.signals).find(([, value]) => value === number)?.[0]
  return name === undefined ? `exit code ${exitCode}` : `killed by ${name}`
}
