/**
 * A node's whole content, loaded beside what is known of it under a number of its own, and put in its place in
 * one step. Half a snapshot is never seen; one that breaks off is scrubbed away.
 */
import { HearthError } from '../../core/errors.ts'
import type { Entry, IndexKey, SnapshotLoader } from './index.ts'
import { compareKeys } from './keys.ts'
import type { NodeTable } from './node-table.ts'
import { inSlices } from './slices.ts'
import type { Tables } from './tables.ts'

export function createSnapshotLoader(
  deps: { tables: Tables; table: NodeTable; write: (number: number, entry: Entry) => void },
  node: string,
): SnapshotLoader {
  const { tables, table, write } = deps
  const number = table.take()
  let last: IndexKey | undefined
  let isOver = false

  return {
    async add(entries) {
      for (const { key } of entries) {
        if (last !== undefined && compareKeys(last, key) >= 0) {
          throw new HearthError('corrupt', `the snapshot of ${node} is out of order`)
        }
        last = key
      }
      await inSlices(tables.root, entries, (entry) => write(number, entry))
    },
    async commit(position) {
      isOver = true
      tables.root.transactionSync(() => table.assign(node, number, position))
    },
    async [Symbol.asyncDispose]() {
      if (!isOver) table.retire(number)
      isOver = true
    },
  }
}
