/**
 * What steps may use of the machine: so much for each build that has a slot. All steps of a daemon run under
 * one control group, so the builds of one scope share what they have together. buildkitd itself is outside.
 */
import os from 'node:os'
import { describeError } from '../../../core/errors.ts'
import { gib } from '../../../core/limits.ts'
import type { Logger } from '../../../core/log.ts'
import { type Scope, type ScopeId, scopeId } from '../../../core/scope.ts'
import { limitControlGroup, makeControlGroup } from './control-groups.ts'

export interface LeaseShare {
  readonly memoryBytes: number
  /** Cores; undefined: as many as are idle, shared by the number of builds. */
  readonly cpus: number | undefined
  /** Processes and threads. */
  readonly pids: number
}

export interface LeaseLimits {
  /** Limits a daemon's group before its first step, and whenever its scope's builds become more or fewer. */
  follow(scope: Scope, group: string): Promise<Disposable>
  /** See DaemonPool. */
  setLeases(scope: Scope, leases: number): void
}

/** For Hearth, the kernel and the daemons themselves. */
const reservedBytes = 1 * gib
const memoryBytesMin = 1 * gib
const pidsDefault = 8192

/** An equal part of this machine for each of its slots. */
export function shareOfThisMachine(
  slots: number,
  chosen: { memoryBytes?: number | undefined; cpus?: number | undefined } = {},
): LeaseShare {
  // 0 or an absurdly high number when there is no limit.
  const limitBytes = process.constrainedMemory()
  const machineBytes = limitBytes > 0 ? Math.min(limitBytes, os.totalmem()) : os.totalmem()
  const part = Math.floor((machineBytes - reservedBytes) / slots)
  return {
    memoryBytes: chosen.memoryBytes ?? Math.max(memoryBytesMin, part),
    cpus: chosen.cpus,
    pids: pidsDefault,
  }
}

export function createLeaseLimits(deps: { log: Logger }, share: LeaseShare): LeaseLimits {
  const { log } = deps
  const leasesOf = new Map<ScopeId, number>()
  const groups = new Map<ScopeId, { group: string; applied: Promise<void> }>()
  let told = false

  async function apply(key: ScopeId, group: string): Promise<void> {
    // A build's last steps outlive its lease by a moment, and a daemon prunes without one.
    const leases = Math.max(1, leasesOf.get(key) ?? 0)
    const unlimited = await limitControlGroup(group, {
      memoryBytes: share.memoryBytes * leases,
      pids: share.pids * leases,
      cpus: share.cpus === undefined ? undefined : share.cpus * leases,
      weight: leases,
    })
    if (unlimited.length === 0 || told) return
    told = true
    log.warn(
      { unlimited },
      'this machine does not limit what steps use: one build can starve others',
    )
  }

  return {
    async follow(scope, group) {
      const key = scopeId(scope)
      await makeControlGroup(group)
      const followed = { group, applied: apply(key, group) }
      groups.set(key, followed)
      await followed.applied
      return {
        [Symbol.dispose]() {
          if (groups.get(key) === followed) groups.delete(key)
        },
      }
    },

    setLeases(scope, leases) {
      const key = scopeId(scope)
      if (leases > 0) leasesOf.set(key, leases)
      else leasesOf.delete(key)
      const followed = groups.get(key)
      if (followed === undefined) return
      // One after another: the last number holds.
      followed.applied = followed.applied
        .then(() => (groups.get(key) === followed ? apply(key, followed.group) : undefined))
        .catch((error: unknown) => {
          log.warn(
            { error: describeError(error), scope: key },
            'could not change the limits of steps',
          )
        })
    },
  }
}
