/** How many builds a machine takes at a time. */
import os from 'node:os'
import { gib } from '../../core/limits.ts'

/** For Hearth, the kernel and the daemons themselves. */
const reservedBytes = 1 * gib
/** What a compiler or a package manager at work needs, as a rule of thumb. */
const bytesPerBuild = 2 * gib

/**
 * One build per core: a build waits for network and disk about as often as it computes, and its own steps
 * run side by side, so fewer leave cores idle and more only take turns. At least two, so that a long build
 * does not shut out a short one. Memory has the last word: a machine that swaps, or kills steps, serves
 * nobody.
 */
export function slotsFor(machine: { cores: number; memoryBytes: number }): number {
  const byCores = Math.max(2, Math.floor(machine.cores))
  const byMemory = Math.floor((machine.memoryBytes - reservedBytes) / bytesPerBuild)
  return Math.max(1, Math.min(byCores, byMemory))
}

/** What this process may use of the machine: its affinity and control group count. */
export function slotsOfThisMachine(): number {
  // 0 or an absurdly high number when there is no limit.
  const limitBytes = process.constrainedMemory()
  const memoryBytes = limitBytes > 0 ? Math.min(limitBytes, os.totalmem()) : os.totalmem()
  return slotsFor({ cores: os.availableParallelism(), memoryBytes })
}
