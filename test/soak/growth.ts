/** Whether a process that runs for long goes on taking more. */
import { setTimeout as delay } from 'node:timers/promises'
import { type ProcessUse, processUse } from './process-use.ts'

export interface Growth {
  /** Medians over the middle and the last third of the time: a garbage collector makes a saw of each. */
  memoryBytes: { middle: number; last: number }
  openFiles: { middle: number; last: number }
}

interface Sample extends ProcessUse {
  /** From 0 to 1 over the whole time. */
  at: number
  pid: number
}

const sampleEveryMs = 1_000

/**
 * Looks at a process every second until the time is over. Only two thirds are compared, and only while they
 * are of one life: whoever kills the process does so in the first third.
 * @param pid of the process at the moment; another one after a restart.
 */
export async function sampleGrowth(
  pid: () => number,
  time: { startMs: number; endMs: number },
): Promise<Growth> {
  const samples: Sample[] = []
  for (let nowMs = performance.now(); nowMs < time.endMs; nowMs = performance.now()) {
    const now = pid()
    const use = await processUse(now)
    const at = (nowMs - time.startMs) / (time.endMs - time.startMs)
    if (use !== undefined) samples.push({ ...use, at, pid: now })
    await delay(sampleEveryMs)
  }
  const middle = samples.filter(({ at }) => at >= 1 / 3 && at < 2 / 3)
  const last = samples.filter(({ at }) => at >= 2 / 3)
  if (new Set([...middle, ...last].map((sample) => sample.pid)).size > 1) {
    throw new Error('the process was restarted while its growth was measured')
  }
  const medians = (value: (use: ProcessUse) => number) => ({
    middle: median(middle.map(value)),
    last: median(last.map(value)),
  })
  return {
    memoryBytes: medians((use) => use.memoryBytes),
    openFiles: medians((use) => use.openFiles),
  }
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? 0
}
