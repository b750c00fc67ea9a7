/** What a node says of itself: gathers news for a moment, appends them to the log, and keeps the own index in step. */
import { setTimeout as sleep } from 'node:timers/promises'
import { HearthError } from '../../core/errors.ts'
import {
  type Change,
  compareKeys,
  type DigestIndex,
  type Entry,
  type IndexKey,
} from '../digest-index/index.ts'
import { batchDelayMs, batchGapMs } from '../limits.ts'
import { changesMax } from './envelope.ts'
import type { Adverts } from './index.ts'
import type { AdvertLog } from './log.ts'

const entriesPerLook = 2_000

/**
 * @param deps.log stays open until this is disposed; its owner closes it, and the index.
 */
export async function createAdverts(deps: {
  log: AdvertLog
  index: DigestIndex
}): Promise<Adverts> {
  const { log, index } = deps
  /** By key, so that the last word counts; in the order of the first. */
  const pending = new Map<string, Change>()
  let flushed: { promise: Promise<void>; hurry(): void } | undefined
  let isClosed = false

  function add(change: Change): void {
    const key = change.type === 'lost' ? change.key : change.entry.key
    pending.set(Buffer.from(key).toString('latin1'), change)
  }

  async function flush(): Promise<void> {
    const changes = [...pending.values()]
    pending.clear()
    for (let start = 0; start < changes.length; start += changesMax) {
      await tell(changes.slice(start, start + changesMax))
    }
  }

  async function tell(changes: readonly Change[]): Promise<void> {
    const { epoch } = log.position()
    const told = await log.append(changes)
    const position = log.position()
    if (position.epoch === epoch) await index.apply(log.publisher, position, told)
    else await followLog(log, index)
  }

  let turn: Promise<unknown> = Promise.resolve()

  /** Resolves when all that is pending now is in log and index. */
  function soon(delayMs: number): Promise<void> {
    if (isClosed) throw new HearthError('unavailable', 'the adverts are closed')
    if (flushed === undefined) {
      const hurried = Promise.withResolvers<void>()
      const waited = Promise.race([sleep(batchDelayMs), hurried.promise])
      const before = turn
      const promise = (async () => {
        await waited
        await before.catch(() => {})
        flushed = undefined
        await flush()
      })()
      turn = promise.catch(() => {})
      flushed = { promise, hurry: () => hurried.resolve() }
    }
    const { promise, hurry } = flushed
    if (delayMs < batchDelayMs || pending.size >= changesMax) setTimeout(hurry, batchGapMs)
    return promise
  }

  async function* inLog(): AsyncGenerator<Entry> {
    for (let after: IndexKey | undefined; ; ) {
      const entries = log.entriesAfter(after, entriesPerLook)
      yield* entries
      after = entries.at(-1)?.key
      if (entries.length < entriesPerLook) return
      await sleep(0)
    }
  }

  await followLog(log, index)
  index.markAlive(log.publisher)

  return {
    position: () => log.position(),
    publish(entries) {
      for (const entry of entries) add({ type: 'gained', entry })
      return soon(batchDelayMs)
    },
    withdraw(keys) {
      for (const key of keys) add({ type: 'lost', key })
      return soon(batchGapMs)
    },
    async cool() {
      await soon(batchGapMs)
      for await (const entry of inLog()) {
        if (entry.heat !== 'hot') continue
        add({ type: 'gained', entry: { ...entry, heat: 'held' } })
        if (pending.size >= changesMax) await soon(batchGapMs)
      }
      await soon(batchGapMs)
    },
    async reconcile(entries) {
      await soon(batchGapMs)
      const count = { gained: 0, lost: 0 }
      for await (const change of difference(inLog(), entries)) {
        add(change)
        count[change.type] += 1
        if (pending.size >= changesMax) await soon(batchGapMs)
      }
      await soon(batchGapMs)
      return count
    },
    async [Symbol.asyncDispose]() {
      isClosed = true
      flushed?.hurry()
      await turn
      index.markDead(log.publisher)
    },
  }
}

/** The own index lags behind the own log after a crash, or was lost. */
async function followLog(log: AdvertLog, index: DigestIndex): Promise<void> {
  const known = index.position(log.publisher)
  const { epoch, sequence } = log.position()
  if (known?.epoch === epoch && known.sequence === sequence) return
  await using loader = index.loadSnapshot(log.publisher)
  let after: IndexKey | undefined
  for (;;) {
    const entries = log.entriesAfter(after, entriesPerLook)
    await loader.add(entries)
    after = entries.at(-1)?.key
    if (entries.length < entriesPerLook) break
  }
  await loader.commit({ epoch, sequence })
}

/** What must be said so that `now` becomes `wanted`; both in ascending order of keys. */
async function* difference(
  now: AsyncIterable<Entry>,
  wanted: AsyncIterable<Entry> | Iterable<Entry>,
): AsyncGenerator<Change> {
  await using left = reader(now)
  await using right = reader(wanted)
  let a = await left.next()
  let b = await right.next()
  while (a !== undefined || b !== undefined) {
    const order = a === undefined ? 1 : b === undefined ? -1 : compareKeys(a.key, b.key)
    if (order < 0 && a !== undefined) {
      yield { type: 'lost', key: a.key }
      a = await left.next()
      continue
    }
    if (b === undefined) continue
    if (order > 0 || a?.heat !== b.heat || a.size !== b.size) yield { type: 'gained', entry: b }
    if (order === 0) a = await left.next()
    b = await right.next()
  }
}

function reader(entries: AsyncIterable<Entry> | Iterable<Entry>) {
  const iterator =
    Symbol.asyncIterator in entries ? entries[Symbol.asyncIterator]() : entries[Symbol.iterator]()
  return {
    async next(): Promise<Entry | undefined> {
      const result = await iterator.next()
      return result.done === true ? undefined : result.value
    },
    async [Symbol.asyncDispose]() {
      await iterator.return?.()
    },
  }
}
