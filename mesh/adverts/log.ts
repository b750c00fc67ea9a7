/**
 * A node's own log: what it holds now, and the last signed batches that led there. Durable: a resolved append
 * is on disk. One writer at a time.
 */

import type { KeyObject } from 'node:crypto'
import { mkdirSync } from 'node:fs'
import { type Database, open } from 'lmdb'
import { z } from 'zod'
import { toHearthError } from '../../core/errors.ts'
import { refuseNewer } from '../../core/format-version.ts'
import type { Change, Entry, IndexKey, Position } from '../digest-index/index.ts'
import { logBatchesMax, logBytesMax } from '../limits.ts'
import { sealNews } from './envelope.ts'

export interface AdvertLog extends AsyncDisposable {
  readonly publisher: string
  position(): Position
  /** Appends one batch of what changes anything, if that is any. @returns what it said. */
  append(changes: readonly Change[]): Promise<readonly Change[]>
  /** The signed batch that led to this sequence; undefined when it is not kept any more. */
  batch(sequence: number): Uint8Array | undefined
  get(key: IndexKey): Entry | undefined
  /** In key order, from the one after `after`. */
  entriesAfter(after: IndexKey | undefined, limit: number): Entry[]
  /** A higher epoch without batches: every reader needs a snapshot. */
  startEpoch(atLeast: number): Promise<void>
  /** Called after each append and each new epoch. */
  onChange(listener: () => void): Disposable
}

export interface AdvertLogOptions {
  /** Of its own. */
  folder: string
  publisher: string
  signingKey: KeyObject
  /** Default: the clock. Makes the first epoch, so that a log that was lost is not taken for an old one. */
  now?: () => number
  /** What is kept for readers that fall behind. Default: limits.ts. */
  batchesMax?: number
}

const logVersion = 1
const positionShape = z.object({ epoch: z.int(), sequence: z.int() })

/** @throws HearthError `version` when a newer Hearth wrote it. */
export async function openAdvertLog(options: AdvertLogOptions): Promise<AdvertLog> {
  const { publisher, signingKey } = options
  const now = options.now ?? Date.now
  const { root, entries, batches, meta } = openTables(options.folder)
  try {
    const version = z.int().parse(meta.get('version') ?? logVersion)
    refuseNewer(`the advert log ${options.folder}`, version, logVersion)
  } catch (error) {
    root.close().catch(() => {})
    throw error
  }
  let position = positionShape.parse(meta.get('position') ?? { epoch: now(), sequence: 0 })
  await root.transaction(() => {
    meta.putSync('version', logVersion)
    meta.putSync('position', position)
  })
  /** Sequence and bytes of the batches that are kept, oldest first. */
  const kept = Array.from(batches.getRange(), ({ key, value }) => ({
    sequence: key.readUIntBE(0, 6),
    bytes: value.length,
  }))
  let keptBytes = kept.reduce((sum, { bytes }) => sum + bytes, 0)
  let turn: Promise<unknown> = Promise.resolve()
  const listeners = new Set<() => void>()

  const get = (key: IndexKey) => {
    const value = entries.get(Buffer.from(key))
    return value === undefined ? undefined : decode(key, value)
  }

  function isNews(change: Change): boolean {
    if (change.type === 'lost') return get(change.key) !== undefined
    const known = get(change.entry.key)
    return known?.heat !== change.entry.heat || known.size !== change.entry.size
  }

  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = turn.then(work)
    turn = done.catch(() => {})
    return done
  }

  async function append(wanted: readonly Change[]): Promise<readonly Change[]> {
    const changes = wanted.filter(isNews)
    if (changes.length === 0) return []
    const next = { epoch: position.epoch, sequence: position.sequence + 1 }
    const sealed = sealNews({ type: 'batch', publisher, position: next, changes }, signingKey)
    kept.push({ sequence: next.sequence, bytes: sealed.length })
    keptBytes += sealed.length
    const tooOld: number[] = []
    while (kept.length > (options.batchesMax ?? logBatchesMax) || keptBytes > logBytesMax) {
      const oldest = kept.shift()
      if (oldest === undefined) break
      keptBytes -= oldest.bytes
      tooOld.push(oldest.sequence)
    }
    await root.transaction(() => {
      for (const change of changes) {
        if (change.type === 'lost') entries.removeSync(Buffer.from(change.key))
        else entries.putSync(Buffer.from(change.entry.key), encode(change.entry))
      }
      batches.putSync(sequenceKey(next.sequence), sealed)
      for (const sequence of tooOld) batches.removeSync(sequenceKey(sequence))
      meta.putSync('position', next)
    })
    position = next
    for (const listener of listeners) listener()
    return changes
  }

  return {
    publisher,
    position: () => position,
    append: (changes) => inTurn(() => append(changes)),
    batch: (sequence) => batches.get(sequenceKey(sequence)),
    get,
    entriesAfter(after, limit) {
      const start = after === undefined ? Buffer.alloc(1) : Buffer.concat([after, Buffer.alloc(1)])
      return Array.from(entries.getRange({ start, limit }), ({ key, value }) => decode(key, value))
    },
    startEpoch: (atLeast) =>
      inTurn(async () => {
        if (position.epoch >= atLeast) return
        const next = { epoch: Math.max(atLeast, now()), sequence: 0 }
        const old = kept.splice(0)
        keptBytes = 0
        await root.transaction(() => {
          for (const { sequence } of old) batches.removeSync(sequenceKey(sequence))
          meta.putSync('position', next)
        })
        position = next
        for (const listener of listeners) listener()
      }),
    onChange(listener) {
      listeners.add(listener)
      return { [Symbol.dispose]: () => void listeners.delete(listener) }
    },
    async [Symbol.asyncDispose]() {
      await turn
      await root.close()
    },
  }
}

function openTables(folder: string) {
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  try {
    const root = open(folder, { maxDbs: 4, overlappingSync: false, eventTurnBatching: false })
    const binary = { encoding: 'binary', keyEncoding: 'binary' } as const
    const entries: Database<Buffer, Buffer> = root.openDB('entries', binary)
    const batches: Database<Buffer, Buffer> = root.openDB('batches', binary)
    const meta: Database<unknown, string> = root.openDB('meta', { encoding: 'msgpack' })
    return { root, entries, batches, meta }
  } catch (error) {
    throw toHearthError(error, `open the advert log in ${folder}`)
  }
}

function sequenceKey(sequence: number): Buffer {
  const key = Buffer.alloc(6)
  key.writeUIntBE(sequence, 0, 6)
  return key
}

function encode({ size, heat }: Entry): Buffer {
  const value = Buffer.alloc(7)
  value[0] = heat === 'hot' ? 1 : 0
  value.writeUIntBE(size, 1, 6)
  return value
}

function decode(key: IndexKey, value: Buffer): Entry {
  return { key, size: value.readUIntBE(1, 6), heat: value[0] === 1 ? 'hot' : 'held' }
}
