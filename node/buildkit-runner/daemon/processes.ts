/**
 * Processes named so that a pid used again is never mistaken for the one we started: by pid and start
 * time, in one pid namespace of one boot.
 */
import { readdir, readFile, readlink, realpath } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { z } from 'zod'
import { HearthError } from '../../../core/errors.ts'

export const processIdentitySchema = z.object({
  pid: z.int().positive(),
  /** Clock ticks since boot: field 22 of /proc/PID/stat, see proc_pid_stat(5). */
  startTicks: z.int().nonnegative(),
  /** For example `pid:[4026531836]`. */
  pidNamespace: z.string(),
  /** /proc/sys/kernel/random/boot_id */
  bootId: z.string(),
})
export type ProcessIdentity = z.infer<typeof processIdentitySchema>

/** Undefined when there is no such process, or only its zombie. */
export async function identifyProcess(pid: number): Promise<ProcessIdentity | undefined> {
  const stat = await readStat(pid)
  if (stat === undefined || stat.state === 'Z') return undefined
  const [pidNamespace, bootId] = await Promise.all([
    readlink('/proc/self/ns/pid'),
    readFile('/proc/sys/kernel/random/boot_id', 'utf8'),
  ])
  return { pid, startTicks: stat.startTicks, pidNamespace, bootId: bootId.trim() }
}

/** A process of another pid namespace counts as alive: from here nobody can tell. */
export async function isAlive(identity: ProcessIdentity): Promise<boolean> {
  const self = await identifyProcess(process.pid)
  if (self === undefined || self.bootId !== identity.bootId) return false
  if (self.pidNamespace !== identity.pidNamespace) return true
  const found = await identifyProcess(identity.pid)
  return found?.startTicks === identity.startTicks
}

/**
 * Waits for a process that has been told to end, and kills it with its children when it has not after `patienceMs`.
 * @throws HearthError `environment` when it survives even that.
 */
export async function endProcess(
  identity: ProcessIdentity,
  options: { patienceMs: number },
): Promise<void> {
  if (await hasEnded(identity, options.patienceMs)) return
  await killWithChildren(identity.pid)
  if (await hasEnded(identity, 5_000)) return
  throw new HearthError('environment', `process ${identity.pid} cannot be killed`, {
    hint: 'it hangs in the kernel, mostly on a broken disk: restart the machine',
  })
}

/**
 * SIGKILL for the children, which their parent then reports, and for the parent if it has none. The child
 * of `unshare` is the first process of a pid namespace: the kernel ends all others with it.
 */
export async function killWithChildren(pid: number): Promise<void> {
  const children = await childrenOf(pid)
  for (const victim of children.length === 0 ? [pid] : children) {
    try {
      process.kill(victim, 'SIGKILL')
    } catch {
      // Ended by itself in this moment.
    }
  }
}

export async function childrenOf(pid: number): Promise<number[]> {
  return (await childrenByParent()).get(pid) ?? []
}

/** Of all that a process has started and that live, those that run this program, the nearest first. */
export async function descendantsRunning(pid: number, program: string): Promise<ProcessIdentity[]> {
  const children = await childrenByParent()
  const wanted = await realpath(program)
  const found: ProcessIdentity[] = []
  const open = [...(children.get(pid) ?? [])]
  for (let next = open.shift(); next !== undefined; next = open.shift()) {
    open.push(...(children.get(next) ?? []))
    const running = await readlink(`/proc/${next}/exe`).catch(() => '')
    // What the kernel adds when the file has been replaced meanwhile.
    if (running.replace(/ \(deleted\)$/, '') !== wanted) continue
    const identity = await identifyProcess(next)
    if (identity !== undefined) found.push(identity)
  }
  return found
}

/** Nothing happens when the process has ended. */
export function signalProcess({ pid }: ProcessIdentity, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch {
    // Ended by itself in this moment.
  }
}

async function childrenByParent(): Promise<Map<number, number[]>> {
  const children = new Map<number, number[]>()
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const stat = await readStat(Number(name))
    if (stat === undefined || stat.state === 'Z') continue
    children.set(stat.parent, [...(children.get(stat.parent) ?? []), Number(name)])
  }
  return children
}

async function hasEnded(identity: ProcessIdentity, limitMs: number): Promise<boolean> {
  const deadline = performance.now() + limitMs
  // No event tells the end of a process that is not our child.
  while (await isAlive(identity)) {
    if (performance.now() >= deadline) return false
    await delay(20)
  }
  return true
}

async function readStat(
  pid: number,
): Promise<{ state: string; parent: number; startTicks: number } | undefined> {
  let text: string
  try {
    text = await readFile(`/proc/${pid}/stat`, 'utf8')
  } catch {
    return undefined
  }
  // The second field is the program's name in parentheses and may itself contain any character.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return { state: fields[0] ?? '', parent: Number(fields[1]), startTicks: Number(fields[19]) }
}
