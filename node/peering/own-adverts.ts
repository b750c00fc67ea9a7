/**
 * From the store's commits to adverts. What comes and goes is told at once; the whole is compared at the start, and
 * again whenever something could not be told.
 *
 *     comparing ──▶ in step ──something could not be told──▶ comparing, after a while
 *
 * While a comparison walks through store and log, what is gained waits for its end, or the walk could take it
 * for something that is gone; what is lost is told at once, and once more afterwards.
 */
import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises'
import { describeError } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import {
  type Adverts,
  compareKeys,
  type Entry,
  type IndexKey,
  keyOfDigest,
} from '../../mesh/index.ts'
import type { BlobInfo, CacheStore } from '../cache-store/index.ts'
import type { FurtherAdverts, OwnAdverts } from './index.ts'

export interface OwnAdvertsDeps {
  store: Pick<CacheStore, 'blobs' | 'watch'>
  adverts: Omit<Adverts, 'position' | typeof Symbol.asyncDispose>
  further?: FurtherAdverts | undefined
  log: Logger
}

/** Changes told during one comparison; beyond it another comparison follows instead. */
const heldMax = 100_000
const firstRetryMs = 1_000
const longestRetryMs = 60_000
/** Blobs walked over in one turn of the event loop. */
const blobsPerTurn = 1_000

type Told = { type: 'gained'; entry: Entry } | { type: 'lost'; key: IndexKey }

/** @param options.retryMs before the second comparison in a row, then doubling up to a minute. Default 1,000. */
export function createOwnAdverts(
  deps: OwnAdvertsDeps,
  options: { retryMs?: number } = {},
): OwnAdverts & AsyncDisposable {
  const { store, adverts, log } = deps
  const stopping = new AbortController()
  const compared = Promise.withResolvers<void>()
  compared.promise.catch(() => {})
  /** By key, what was told during a comparison. */
  let held: Map<string, Told> | undefined
  let heldIsTold = Promise.withResolvers<void>()
  let isStale = true
  let work: Promise<void> | undefined

  function compareSoon(): void {
    isStale = true
    if (!stopping.signal.aborted) work ??= compareUntilRight()
  }

  function missed(error: unknown): void {
    if (stopping.signal.aborted) return
    log.warn({ reason: describeError(error) }, 'the others could not be told what this node holds')
    compareSoon()
  }

  async function compareUntilRight(): Promise<void> {
    for (let failures = 0; isStale && !stopping.signal.aborted; ) {
      isStale = false
      try {
        await compareOnce()
        compared.resolve()
      } catch (error) {
        if (stopping.signal.aborted) break
        isStale = true
        failures += 1
        const reason = describeError(error)
        log.warn({ failures, reason }, 'the adverts could not be compared with the store')
      }
      if (isStale) await pause(failures)
    }
    work = undefined
  }

  async function compareOnce(): Promise<void> {
    held = new Map()
    heldIsTold = Promise.withResolvers()
    heldIsTold.promise.catch(() => {})
    try {
      const { gained, lost } = await adverts.reconcile(inKeyOrder())
      if (gained + lost > 0) log.info({ gained, lost }, 'the adverts follow the store again')
    } finally {
      const told = [...held.values()]
      held = undefined
      heldIsTold.resolve(tell(told))
    }
    await heldIsTold.promise
  }

  /** All of it in this turn, so that what is told next comes after it. */
  async function tell(told: readonly Told[]): Promise<void> {
    const gained = told.flatMap((each) => (each.type === 'gained' ? [each.entry] : []))
    const lost = told.flatMap((each) => (each.type === 'lost' ? [each.key] : []))
    await Promise.all([
      gained.length > 0 ? adverts.publish(gained) : undefined,
      lost.length > 0 ? adverts.withdraw(lost) : undefined,
    ])
  }

  async function* inKeyOrder(): AsyncGenerator<Entry> {
    const further = (deps.further?.entries() ?? [])[Symbol.iterator]()
    let next = further.next()
    let walked = 0
    for (const blob of store.blobs()) {
      const entry = entryOf(blob)
      while (next.done !== true && compareKeys(next.value.key, entry.key) < 0) {
        yield next.value
        next = further.next()
      }
      yield entry
      walked += 1
      if (walked % blobsPerTurn === 0) await nextTurn(undefined, { signal: stopping.signal })
    }
    for (; next.done !== true; next = further.next()) yield next.value
  }

  function hold(told: Told): void {
    if (held === undefined) return
    const key = told.type === 'gained' ? told.entry.key : told.key
    held.set(Buffer.from(key).toString('latin1'), told)
    if (held.size <= heldMax) return
    held.clear()
    isStale = true
  }

  async function publish(entries: Iterable<Entry>): Promise<void> {
    if (held === undefined) return await adverts.publish(entries)
    for (const entry of entries) hold({ type: 'gained', entry })
    await heldIsTold.promise
  }

  async function withdraw(keys: Iterable<IndexKey>): Promise<void> {
    const lost = [...keys]
    for (const key of lost) hold({ type: 'lost', key })
    await adverts.withdraw(lost)
  }

  const watching = store.watch({
    onGained: (blob) => void publish([entryOf(blob)]).catch(missed),
    beforeLost: (digests) => withdraw(digests.map(keyOfDigest)).catch(missed),
  })

  const pause = (failures: number): Promise<void> => {
    const timeMs = (options.retryMs ?? firstRetryMs) * 2 ** Math.min(failures, 10)
    const signal = stopping.signal
    return delay(Math.min(longestRetryMs, timeMs), undefined, { signal }).catch(() => {})
  }

  compareSoon()
  return {
    publish,
    withdraw,
    async cool() {
      // A comparison under way may have read the heat of before.
      if (held !== undefined) isStale = true
      await adverts.cool()
    },
    compared: () => compared.promise,
    async [Symbol.asyncDispose]() {
      stopping.abort()
      watching[Symbol.dispose]()
      compared.reject(new Error('the node has stopped'))
      await work
    },
  }
}

function entryOf({ digest, size }: BlobInfo): Entry {
  return { key: keyOfDigest(digest), size, heat: 'held' }
}
