/** What each operation of a project last took when it ran: the measure of what a reused step saves. */
import type { Database, RootDatabase } from 'lmdb'
import { z } from 'zod'
import { stepDurationMs } from '../limits.ts'
import type { StepDurations } from './index.ts'
import { recordReader } from './table.ts'

const entryShape = z.tuple([z.number().nonnegative(), z.number()])

export function createStepDurations(root: RootDatabase<unknown, string>): StepDurations {
  const steps: Database<unknown, [string, string]> = root.openDB({ name: 'steps' })
  const read = recordReader('steps', entryShape)
  let pruned: [string, string] | undefined

  return {
    lastRanMs(project, operationDigest) {
      const value = steps.get([project, operationDigest])
      return value === undefined ? 0 : read([project, operationDigest], value)[0]
    },
    put(project, operationDigest, ranMs, nowMs) {
      steps.putSync([project, operationDigest], [ranMs, nowMs])
    },
    prune(nowMs, { entriesMax }) {
      const start = pruned === undefined ? {} : { start: pruned, exclusiveStart: true }
      const entries = [...steps.getRange({ ...start, limit: entriesMax })]
      pruned = entries.length < entriesMax ? undefined : entries.at(-1)?.key
      const old = entries.filter(({ key, value }) => read(key, value)[1] < nowMs - stepDurationMs)
      if (old.length > 0) {
        root.transactionSync(() => {
          for (const { key } of old) steps.removeSync(key)
        })
      }
      return old.length
    },
  }
}
