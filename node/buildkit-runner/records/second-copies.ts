/**
 * Second copies of what other nodes have made, where no object store keeps it: of the nodes that are connected, the
 * fragment's digest chooses one, the same on every node; the next in that order steps in when nothing came of it.
 * What was called kept when its maker was alone, or has lost a place since, gets its second copy from those who come
 * later. One blob at a time and with pauses: nobody waits for it, and builds run beside it.
 */
import { hash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Digest } from '../../../core/digest.ts'
import { describeError } from '../../../core/errors.ts'
import type { Logger } from '../../../core/log.ts'
import { type Scope, scopeId } from '../../../core/scope.ts'
import type { FragmentStatement } from '../../../mesh/fragments/index.ts'
import type { CacheStore, Pin } from '../../cache-store/index.ts'
import type { BlobSources } from '../../cache-store/sources/index.ts'
import { documentBytesMax, readDocument } from './documents.ts'
import { readFragment } from './fragment.ts'
import { places } from './keeping.ts'

export interface SecondCopiesDeps {
  sources: BlobSources
  store: CacheStore
  /** Nodes that are connected, without this one. */
  peers: () => readonly CopyCandidate[]
  self: CopyCandidate
  /** Living peers that are said to hold the blob. */
  holders: (digest: Digest) => number
  log: Logger
}

export interface CopyCandidate {
  readonly peerId: string
  /** Undefined when it is not known. */
  readonly platform: string | undefined
}

export interface SecondCopiesOptions {
  /** The first in the order begins this long after the statement: adverts are slower. Default 1 s. */
  firstMs?: number
  /** As much later with what is called kept: most of it has its two places, which their adverts will say. Default 5 s. */
  keptMs?: number
  /** Each further one, if it is not kept by then. Default 30 s. */
  eachMs?: number
}

export interface SecondCopies extends AsyncDisposable {
  noticed(statement: FragmentStatement): void
  /** Nobody needs it any more. */
  forget(scope: Scope, fragment: Digest): void
}

interface Waiting {
  readonly statement: FragmentStatement
  readonly sinceMs: number
  tries: number
  notBeforeMs: number
}

const lookMs = 250
const triesMax = 10
const retryMs = 2_000
/** Peers connect and choose anew meanwhile. */
const turnMsMax = 5_000
const waitingMax = 1_000
/** After each blob, as long as it took, but no longer. */
const pauseMsMax = 1_000

export function createSecondCopies(
  deps: SecondCopiesDeps,
  { firstMs = 1_000, keptMs = 5_000, eachMs = 30_000 }: SecondCopiesOptions = {},
): SecondCopies {
  const { store, sources, log } = deps
  const waiting = new Map<string, Waiting>()
  const stopping = new AbortController()
  const { signal } = stopping
  let working: Promise<void> | undefined
  const keyOf = (scope: Scope, digest: Digest): string => `${scopeId(scope)} ${digest}`

  function isTurn(each: Waiting): boolean {
    const nowMs = performance.now()
    if (nowMs < each.notBeforeMs) return false
    const { digest, maker, isKept } = each.statement
    const place = copyOrder(digest, maker, [deps.self, ...deps.peers()]).indexOf(deps.self.peerId)
    // The maker itself, which is in no place, lacks what its build has reused without reading it.
    const waitMs = firstMs + (isKept ? keptMs : 0) + Math.max(0, place) * eachMs
    const leftMs = each.sinceMs + waitMs - nowMs
    if (leftMs > 0) each.notBeforeMs = nowMs + Math.min(leftMs, turnMsMax)
    return leftMs <= 0
  }

  async function work(): Promise<void> {
    while (waiting.size > 0 && !signal.aborted) {
      for (const [key, each] of waiting) {
        if (signal.aborted) return
        if (!isTurn(each)) continue
        each.tries += 1
        each.notBeforeMs = performance.now() + retryMs * each.tries
        const isDone = await copy(each.statement).catch((error: unknown) => {
          const reason = describeError(error)
          if (!signal.aborted) log.info({ key, reason }, 'no second copy of a fragment yet')
          return false
        })
        if (isDone || each.tries >= triesMax) waiting.delete(key)
      }
      await sleep(lookMs, undefined, { signal, ref: false }).catch(() => {})
    }
  }

  /** @returns whether all of it is here, or in two other places. */
  async function copy({ scope, digest, size, sequence }: FragmentStatement): Promise<boolean> {
    if (size > documentBytesMax) return true
    // Until the last is here, so that making room for one does not cost another.
    using pin = store.pin(scope, [])
    if (!(await bring(scope, { digest, size }, pin))) return false
    const { descriptors } = readFragment(await readDocument(store, scope, digest), sequence)
    let lacked = 0
    let missed = 0
    for (const { descriptor } of descriptors.values()) {
      if (deps.holders(descriptor.digest) >= places) continue
      if (store.stat(scope, descriptor.digest) === undefined) lacked += 1
      if (!(await bring(scope, descriptor, pin))) missed += 1
    }
    if (missed > 0) return false
    if (lacked === 0) return true
    log.info({ scope: scopeId(scope), fragment: digest }, 'a fragment has a second copy here')
    return true
  }

  async function bring(
    scope: Scope,
    { digest, size }: { digest: Digest; size: number },
    pin: Pin,
  ): Promise<boolean> {
    if (pin.add([digest]).length > 0) return true
    const startedAtMs = performance.now()
    const brought = await sources.bring(scope, { digest, size }, { isAhead: true, signal })
    const isHere = brought.type !== 'missed' && pin.add([digest]).length > 0
    const pauseMs = Math.min(pauseMsMax, performance.now() - startedAtMs)
    await sleep(pauseMs, undefined, { signal, ref: false })
    return isHere
  }

  const start = (): Promise<void> =>
    work().finally(() => {
      // Something may have come after the last look.
      working = waiting.size > 0 && !signal.aborted ? start() : undefined
    })

  return {
    noticed(statement) {
      const key = keyOf(statement.scope, statement.digest)
      const before = waiting.get(key)
      const nowMs = performance.now()
      const { sinceMs, tries, notBeforeMs } = before ?? {
        sinceMs: nowMs,
        tries: 0,
        notBeforeMs: nowMs,
      }
      waiting.set(key, { statement, sinceMs, tries, notBeforeMs })
      for (const oldest of waiting.keys()) {
        if (waiting.size <= waitingMax) break
        waiting.delete(oldest)
      }
      working ??= start()
    },
    forget(scope, digest) {
      waiting.delete(keyOf(scope, digest))
    },
    async [Symbol.asyncDispose]() {
      stopping.abort()
      await working
    },
  }
}

/** Peer ids, the first to copy first: those of the maker's platform, then by a hash with the fragment's digest. */
export function copyOrder(
  fragment: Digest,
  maker: string,
  candidates: readonly CopyCandidate[],
  platformOfMaker = candidates.find(({ peerId }) => peerId === maker)?.platform,
): string[] {
  const weightOf = ({ peerId }: CopyCandidate) => hash('sha256', `${fragment} ${peerId}`)
  const isOther = ({ platform }: CopyCandidate) =>
    Number(platformOfMaker !== undefined && platform !== platformOfMaker)
  return candidates
    .filter(({ peerId }) => peerId !== maker)
    .sort((a, b) => isOther(a) - isOther(b) || (weightOf(a) < weightOf(b) ? -1 : 1))
    .map(({ peerId }) => peerId)
}
