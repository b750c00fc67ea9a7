/** Which BuildKit is new enough. */
import { HearthError } from '../../../core/errors.ts'
import type { Logger } from '../../../core/log.ts'

/**
 * v0.34.2 is what Hearth is tried with, and the first that loses no links when it loads merged records
 * (solver/cachestorage.go: addItemToStorage).
 */
const oldest = [0, 34, 2] as const

/** @throws HearthError `version` */
export function refuseOldVersion(version: string, buildkitd: string, log: Logger): void {
  const parts = /^v?(\d+)\.(\d+)\.(\d+)/.exec(version)?.slice(1).map(Number)
  // Built from source without a stamp: its maker knows what it is.
  if (parts === undefined || parts.every((part) => part === 0)) {
    log.debug({ version, buildkitd }, 'BuildKit does not say its version')
    return
  }
  for (const [index, wanted] of oldest.entries()) {
    const found = parts[index] ?? 0
    if (found > wanted) return
    if (found < wanted) {
      throw new HearthError(
        'version',
        `${buildkitd} is BuildKit ${version}; at least v${oldest.join('.')} is needed`,
        { hint: 'install a newer one, or remove it: the set-up then builds its own' },
      )
    }
  }
}
