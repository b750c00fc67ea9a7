/** Steps that sleep for a number of seconds of their own, so that they are found among all processes. */
import { readdir, readFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'

/** Whether a `sleep SECONDS` lives, anywhere on the machine. */
export async function isSleeping(seconds: string): Promise<boolean> {
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid)) continue
    const line = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
    if (line.split('\0').join(' ').startsWith(`sleep ${seconds}`)) return true
  }
  return false
}

/** Resolves when it does. */
export async function sleeperAppears(seconds: string): Promise<void> {
  const limit = AbortSignal.timeout(30_000)
  while (!(await isSleeping(seconds))) {
    limit.throwIfAborted()
    await delay(10)
  }
}

/** Resolves when none does any more: a step that nobody wants is killed a moment after its build was told of. */
export async function sleeperEnds(seconds: string): Promise<void> {
  const limit = AbortSignal.timeout(30_000)
  while (await isSleeping(seconds)) {
    limit.throwIfAborted()
    await delay(10)
  }
}
