/** Takes the numbers of nodes that are gone out of all rows, so that they can be given again. */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { sliceMs } from '../limits.ts'
import type { NodeTable } from './node-table.ts'
import { isSet, setBit, withoutNumbers } from './row.ts'
import type { Tables } from './tables.ts'

const rowsPerLook = 256

/** @throws the signal's reason; the walk begins anew next time. */
export async function scrubNumbers(
  { root, rows }: Tables,
  table: NodeTable,
  numbersMax: number,
  signal: AbortSignal,
): Promise<{ numbersFreed: number }> {
  // Those that retire while it walks wait for the next walk.
  const gone = table.retired()
  if (gone.length === 0) return { numbersFreed: 0 }
  const goneBits = new Uint8Array(numbersMax / 8)
  for (const number of gone) setBit(goneBits, number, true)
  let after: Buffer | undefined
  let isDone = false

  function look(): void {
    const start = after === undefined ? Buffer.alloc(1) : Buffer.concat([after, Buffer.alloc(1)])
    const found = [...rows.getRange({ start, limit: rowsPerLook })]
    for (const { key, value } of found) {
      const next = withoutNumbers(value, gone, goneBits)
      if (next === undefined) rows.removeSync(key)
      else if (next !== value) rows.putSync(key, Buffer.from(next))
    }
    after = found.at(-1)?.key
    isDone = found.length < rowsPerLook
  }

  while (!isDone) {
    signal.throwIfAborted()
    root.transactionSync(() => {
      const untilMs = performance.now() + sliceMs
      while (!isDone && performance.now() < untilMs) look()
      if (isDone) table.free(gone)
    })
    await nextTurn()
  }
  return { numbersFreed: gone.filter((number) => isSet(goneBits, number)).length }
}
