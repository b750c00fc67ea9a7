/**
 * One process at a time: a second one would sweep away the first one's temporary files. The holder is named
 * in the index itself by process id, start time and boot, so that a dead holder never blocks the next start.
 */
import { readFileSync } from 'node:fs'
import type { Database, RootDatabase } from 'lmdb'
import { HearthError } from '../../core/errors.ts'

type Meta = Database<unknown, string>

interface Holder {
  readonly pid: number
  /** In clock ticks since boot, from /proc; empty where there is no /proc. */
  readonly started: string
  readonly boot: string
}

const holderKey = 'holder'

/**
 * Call inside a transaction.
 * @throws HearthError `unavailable`
 */
export function claimIndex(meta: Meta, folder: string): void {
  const holder = meta.get(holderKey) as Holder | undefined
  if (holder !== undefined && isAlive(holder)) {
    throw new HearthError('unavailable', `${folder} is in use by process ${holder.pid}`, {
      hint: 'stop that process, or name another data folder',
    })
  }
  const pid = process.pid
  meta.putSync(holderKey, { pid, started: startOf(pid) ?? '', boot: bootId() } satisfies Holder)
}

export function releaseIndex(root: RootDatabase, meta: Meta): void {
  root.transactionSync(() => meta.removeSync(holderKey))
}

function isAlive(holder: Holder): boolean {
  if (holder.boot !== bootId()) return false
  if (holder.started !== '') return startOf(holder.pid) === holder.started
  try {
    process.kill(holder.pid, 0)
    return true
  } catch {
    return false
  }
}

/** Field 22 of /proc/PID/stat, proc_pid_stat(5); the name before it may hold spaces and brackets. */
function startOf(pid: number): string | undefined {
  const stat = readOrNothing(`/proc/${pid}/stat`)
  return stat
    ?.slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .at(19)
}

function bootId(): string {
  return readOrNothing('/proc/sys/kernel/random/boot_id')?.trim() ?? ''
}

function readOrNothing(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return undefined
  }
}
