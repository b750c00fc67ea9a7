/**
 * Second copies of what other nodes have made, where no object store keeps it: of the nodes that are connected, the
 * fragment's digest chooses one, the same on every node; the next in that order steps in when nothing came of it.
 * One blob at a time and with pauses: nobody waits for it, and builds run beside it.
 */
import { hash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Digest } from '../../../core/digest.ts'
import { describeError } from '../../../core/errors.ts'
import type { Logger } from '../../../core/log.ts'
import { type Scope, scopeId } from '../../../core/scope.ts'
import type { KnownFragment } from '../../../mesh/fragments/index.ts'
import type { CacheStore, Pin } from '../../cache-store/index.ts'
import type { BlobSources } from '../../cache-store/sources/index.ts'
import { documentBytesMax, readDocument } from './documents.ts'
import { readFragment } from './fragment.ts'

export interface SecondCopiesDeps {
  sources: BlobSources
  store: CacheStore
  /** Nodes that are connected, without this one. */
  peers: () => readonly CopyCandidate[]
  self: CopyCandidate
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
  /** Each further one, if it is not kept by then. Default 30 s. */
  eachMs?: number
}

export interface SecondCopies extends AsyncDisposable {
  noticed(known: KnownFragment): void
}

interface Waiting {
  readonly known: KnownFragment
  readonly sinceMs: number
  tries: number
  notBeforeMs: number
}

const lookMs = 250
const triesMax = 10
const retryMs = 2_000
const waitingMax = 1_000
/** After each blob, as long as it took, but no longer. */
const pauseMsMax = 1_000

export function createSecondCopies(
  deps: SecondCopiesDeps,
  { firstMs = 1_000, eachMs = 30_000 }: SecondCopiesOptions = {},
): SecondCopies {
  const { store, sources, log } = deps
  const waiting = new Map<string, Waiting>()
  const stopping = new AbortController()
  const { signal } = stopping
  let working: Promise<void> | undefined

  function isTurn({ known, sinceMs, notBeforeMs }: Waiting): boolean {
    const nowMs = performance.now()
    if (nowMs < notBeforeMs) return false
    const { digest, maker } = known.statement
    const place = copyOrder(digest, maker, [deps.self, ...deps.peers()]).indexOf(deps.self.peerId)
    return nowMs - sinceMs >= firstMs + place * eachMs
  }

  async function work(): Promise<void> {
    while (waiting.size > 0 && !signal.aborted) {
      for (const [key, each] of waiting) {
        if (signal.aborted) return
        if (!isTurn(each)) continue
        each.tries += 1
        each.notBeforeMs = performance.now() + retryMs * each.tries
        const isDone = await copy(each.known).catch((error: unknown) => {
          const reason = describeError(error)
          if (!signal.aborted) log.info({ key, reason }, 'no second copy of a fragment yet')
          return false
        })
        if (isDone || each.tries >= triesMax) waiting.delete(key)
      }
      await sleep(lookMs, undefined, { signal, ref: false }).catch(() => {})
    }
  }

  /** @returns whether all of it is here. */
  async function copy({ statement }: KnownFragment): Promise<boolean> {
    const { scope, digest, size, sequence } = statement
    if (size > documentBytesMax) return true
    // Until the last is here, so that making room for one does not cost another.
    using pin = store.pin(scope, [])
    if (!(await bring(scope, { digest, size }, pin))) return false
    const { descriptors } = readFragment(await readDocument(store, scope, digest), sequence)
    let missed = 0
    for (const { descriptor } of descriptors.values()) {
      if (!(await bring(scope, descriptor, pin))) missed += 1
    }
    if (missed > 0) return false
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
    noticed(known) {
      const { scope, digest, maker, isKept } = known.statement
      const key = `${scopeId(scope)} ${digest}`
      if (isKept || maker === deps.self.peerId) {
        waiting.delete(key)
        return
      }
      const before = waiting.get(key)
      const nowMs = performance.now()
      waiting.set(key, before ?? { known, sinceMs: nowMs, tries: 0, notBeforeMs: nowMs })
      for (const oldest of waiting.keys()) {
        if (waiting.size <= waitingMax) break
        waiting.delete(oldest)
      }
      working ??= start()
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
