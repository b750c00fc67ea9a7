/** The index over LMDB. */
import { setTimeout as sleep } from 'node:timers/promises'
import { HearthError } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import { indexMapBytes, nodeNumbersMax } from '../limits.ts'
import type { Change, DigestIndex, Entry, IndexKey } from './index.ts'
import { createNodeTable } from './node-table.ts'
import { changeRow, encodeRow, heatIn, hotBit, readRow, sizeOf } from './row.ts'
import { scrubNumbers } from './scrub.ts'
import { inSlices } from './slices.ts'
import { createSnapshotLoader } from './snapshot-loader.ts'
import { createSurveyDesk } from './survey.ts'
import { openTables } from './tables.ts'

export interface DigestIndexOptions {
  /** Of its own. */
  folder: string
  log: Logger
  /** Address space that the file may grow into. Default: limits.ts. */
  mapBytes?: number
  /** After a node has left or was loaded anew, when its old number is scrubbed away. Default: 30 s. */
  scrubAfterMs?: number
}

/** @throws HearthError `version` when a newer Hearth wrote it. */
export async function openDigestIndex(options: DigestIndexOptions): Promise<DigestIndex> {
  const tables = await openTables(options.folder, options.mapBytes ?? indexMapBytes)
  const { root, rows } = tables
  const table = createNodeTable(tables)
  const desk = createSurveyDesk({ table, lookUp: (key) => rows.getBinaryFast(asBuffer(key)) })
  const closing = new AbortController()
  let scrubbing: Promise<unknown> = Promise.resolve()
  let scrubIsDue = false

  function change(number: number, key: IndexKey, to: Pick<Entry, 'size'> & Partial<Entry>): void {
    const place = Buffer.from(key)
    // A reused buffer: read before the next look-up, never kept.
    const before = rows.getBinaryFast(place)
    const after = changeRow(before, { number, heat: to.heat, size: to.size })
    if (after === before) return
    if (after === undefined) rows.removeSync(place)
    else rows.putSync(place, Buffer.from(after))
  }

  function applyChange(number: number, one: Change): void {
    if (one.type === 'lost') change(number, one.key, { size: 0 })
    else change(number, one.entry.key, one.entry)
  }

  function scrub(signal: AbortSignal): Promise<{ numbersFreed: number }> {
    const turn = scrubbing.then(() => scrubNumbers(tables, table, nodeNumbersMax, signal))
    scrubbing = turn.catch(() => {})
    return turn
  }

  function scrubLater(): void {
    if (scrubIsDue || closing.signal.aborted || table.retired().length === 0) return
    scrubIsDue = true
    const { signal } = closing
    sleep(options.scrubAfterMs ?? 30_000, undefined, { signal, ref: false })
      .then(() => scrub(signal))
      .then(({ numbersFreed }) => {
        options.log.debug({ numbersFreed }, 'the index let go of nodes that are gone')
      })
      .catch((error: unknown) => {
        if (!signal.aborted) options.log.warn({ error }, 'the index could not be scrubbed')
      })
      .finally(() => {
        scrubIsDue = false
        scrubLater()
      })
  }

  scrubLater()
  return {
    holders: (keys) =>
      keys.map((key) => {
        const row = rows.getBinaryFast(asBuffer(key))
        return row === undefined ? undefined : readRow(row, table.alive)
      }),
    survey: (keys) => desk.survey(keys),
    nodeOf: (number) => table.nodeOf(number & (hotBit - 1)),
    numberOf: (node) => table.get(node)?.number,
    nodes: () => table.list(),
    position: (node) => table.get(node)?.position,
    async apply(node, position, changes) {
      const known = table.get(node)
      if (known === undefined) throw new HearthError('not-found', `${node} is not in the index`)
      await inSlices(
        root,
        changes,
        (one) => applyChange(known.number, one),
        () => table.move(node, position),
      )
    },
    loadSnapshot(node) {
      const loader = createSnapshotLoader(
        { tables, table, write: (number, entry) => change(number, entry.key, entry) },
        node,
      )
      return {
        ...loader,
        async commit(position) {
          await loader.commit(position)
          scrubLater()
        },
        async [Symbol.asyncDispose]() {
          await loader[Symbol.asyncDispose]()
          scrubLater()
        },
      }
    },
    drop(node) {
      root.transactionSync(() => table.drop(node))
      scrubLater()
    },
    markAlive: (node) => table.setAlive(node, true),
    markDead: (node) => table.setAlive(node, false),
    *entries(node) {
      const number = table.get(node)?.number
      if (number === undefined) return
      for (const { key, value } of rows.getRange()) {
        const heat = heatIn(value, number)
        if (heat !== undefined) yield { key, size: sizeOf(value), heat }
      }
    },
    scrub: ({ signal }) => scrub(AbortSignal.any([signal, closing.signal])),
    importRows(nodes, imported) {
      if (table.list().length > 0) throw new Error('rows are imported into an empty index only')
      root.transactionSync(() => {
        for (const node of nodes) table.assign(node, table.take(), { epoch: 0, sequence: 0 })
      })
      const iterator = Iterator.from(imported)
      for (let isDone = false; !isDone; ) {
        root.transactionSync(() => {
          for (let count = 0; count < rowsPerImport && !isDone; count += 1) {
            const next = iterator.next()
            isDone = next.done === true
            if (next.done === true) return
            const { key, size, holders } = next.value
            rows.putSync(Buffer.from(key), Buffer.from(encodeRow(size, holders)))
          }
        })
      }
    },
    async [Symbol.asyncDispose]() {
      closing.abort()
      await scrubbing
      await root.close()
    },
  }
}

const rowsPerImport = 50_000

function asBuffer(key: IndexKey): Buffer {
  return Buffer.isBuffer(key) ? key : Buffer.from(key.buffer, key.byteOffset, key.byteLength)
}
