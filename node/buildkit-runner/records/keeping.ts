/**
 * Own fragments on their way to a second place: the object store where there is one, else another node, which
 * brings them by itself (second-copies.ts) and is seen to have them by its adverts.
 *
 *   made ──in the object store, or every blob held by a peer──▶ kept ──▶ said so to the mesh
 *     └──── no other node, or nothing of the above within the limit ──▶ kept here only (for the report; the wait goes on)
 */
import type { Digest } from '../../../core/digest.ts'
import { describeError, toHearthError } from '../../../core/errors.ts'
import type { Logger } from '../../../core/log.ts'
import { type Scope, scopeId } from '../../../core/scope.ts'
import type { FragmentNews } from '../../../mesh/fragments/index.ts'
import type { BlobInfo } from '../../cache-store/index.ts'
import type { S3Tier } from '../../cache-store/s3-tier/index.ts'
import type { Settled } from './index.ts'

export interface KeepingDeps {
  news: FragmentNews
  /** Living peers that are said to hold the blob. */
  holders: (digest: Digest) => number
  /** It is in this node's own store: what a build reused lazily may be elsewhere only. */
  isHeld: (scope: Scope, digest: Digest) => boolean
  /** Nodes that could take it, whether or not they can be reached now. */
  others: () => { members: number; connected: number }
  s3: Pick<S3Tier, 'keep' | 'name'> | undefined
  /** Tells everybody that it is kept. */
  setKept: (scope: Scope, fragment: Digest) => Promise<void>
  log: Logger
}

export interface OwnFragment {
  readonly scope: Scope
  readonly digest: Digest
  readonly bytes: Uint8Array
  readonly sequence: number
  readonly blobs: readonly BlobInfo[]
}

export interface Keeping extends Disposable {
  watch(fragment: OwnFragment): void
  /** Nobody needs it any more: later ones, which are kept, say all that it said. */
  unwatch(scope: Scope, fragment: Digest): void
  settled(scope: Scope, fragment: Digest, options: { signal: AbortSignal }): Promise<Settled>
}

interface Watched {
  readonly fragment: OwnFragment
  readonly sinceMs: number
  readonly done: PromiseWithResolvers<Settled>
  stored: 'not asked' | 'on its way' | 'given up'
  trouble: string | undefined
  nextLookMs: number
}

/** Copies of what is kept. */
export const places = 2

const lookMs = 250
/** Who is not connected by then is no second place for this build. */
const aloneMs = 15_000
/** Each look costs a few look-ups for each layer. */
const lookMsMax = 30_000
/** Those that wait longest give way, as what they said to have kept goes first as well. */
const watchedMax = 1_000

export function createKeeping(deps: KeepingDeps, options: { limitMs: number }): Keeping {
  const watched = new Map<string, Watched>()
  const keyOf = (scope: Scope, digest: Digest): string => `${scopeId(scope)} ${digest}`
  let timer: NodeJS.Timeout | undefined

  function isElsewhere({ fragment, stored }: Watched): boolean {
    if (deps.s3 !== undefined && stored !== 'given up') return false
    if (deps.others().members === 0) return true
    const { scope, digest, blobs } = fragment
    return [digest, ...blobs.map((blob) => blob.digest)].every((each) => {
      const wanted = deps.isHeld(scope, each) ? places - 1 : places
      return deps.holders(each) >= wanted
    })
  }

  function store(each: Watched): void {
    const { s3, news } = deps
    if (s3 === undefined) return
    const { scope, digest, bytes, sequence, blobs } = each.fragment
    each.stored = 'on its way'
    // What it says is true from the moment that anybody can read it there: the fragment comes last.
    const statement = { scope, digest, size: bytes.length, sequence, isKept: true }
    s3.keep(scope, { statement: news.sign(statement).signed, bytes, blobs })
      .then(() => conclude(each))
      .catch((error: unknown) => {
        if (toHearthError(error).code === 'cancelled') return
        each.stored = 'given up'
        each.trouble = `${s3.name}: ${describeError(error)}`
      })
  }

  async function conclude(each: Watched): Promise<void> {
    const { scope, digest } = each.fragment
    const key = keyOf(scope, digest)
    if (watched.get(key) !== each) return
    watched.delete(key)
    try {
      await deps.setKept(scope, digest)
    } catch (error) {
      deps.log.warn(
        { fragment: digest, error: describeError(error) },
        'a kept fragment is not told',
      )
    }
    each.done.resolve({ type: 'kept' })
  }

  function whyNot({ stored, trouble }: Watched): string {
    if (deps.s3 !== undefined && stored === 'on its way') {
      return `${deps.s3.name} has not got all of it yet`
    }
    const { members, connected } = deps.others()
    const nodes =
      members === 0 || connected > 0
        ? 'no other node has fetched all of it yet'
        : 'no other node is connected'
    return trouble === undefined ? nodes : `${trouble}; ${nodes}`
  }

  function look(): void {
    const nowMs = performance.now()
    for (const each of watched.values()) {
      const limitMs = deps.s3 === undefined && deps.others().connected === 0 ? aloneMs : Infinity
      if (nowMs - each.sinceMs >= Math.min(limitMs, options.limitMs)) {
        each.done.resolve({ type: 'kept here only', reason: whyNot(each) })
      }
      if (nowMs < each.nextLookMs) continue
      const ageMs = nowMs - each.sinceMs
      each.nextLookMs = nowMs + Math.min(lookMsMax, Math.max(lookMs, ageMs / 20))
      if (isElsewhere(each)) void conclude(each)
    }
    if (watched.size > 0) return
    clearInterval(timer)
    timer = undefined
  }

  return {
    watch(fragment) {
      const key = keyOf(fragment.scope, fragment.digest)
      const before = watched.get(key)
      const each: Watched = {
        fragment,
        sinceMs: performance.now(),
        done: before?.done ?? Promise.withResolvers<Settled>(),
        stored: 'not asked',
        trouble: undefined,
        nextLookMs: 0,
      }
      watched.delete(key)
      watched.set(key, each)
      for (const [oldest, { done }] of watched) {
        if (watched.size <= watchedMax) break
        done.resolve({ type: 'kept here only', reason: 'too many others wait for a second place' })
        watched.delete(oldest)
      }
      store(each)
      timer ??= setInterval(look, lookMs).unref()
    },
    unwatch(scope, digest) {
      const key = keyOf(scope, digest)
      watched.get(key)?.done.resolve({ type: 'kept' })
      watched.delete(key)
    },
    async settled(scope, digest, { signal }) {
      const each = watched.get(keyOf(scope, digest))
      if (each === undefined) return { type: 'kept' }
      const stopped = Promise.withResolvers<Settled>()
      const stop = (): void =>
        stopped.resolve({ type: 'kept here only', reason: `the node stops: ${whyNot(each)}` })
      signal.addEventListener('abort', stop, { once: true })
      if (signal.aborted) stop()
      try {
        return await Promise.race([each.done.promise, stopped.promise])
      } finally {
        signal.removeEventListener('abort', stop)
      }
    },
    [Symbol.dispose]() {
      clearInterval(timer)
      for (const each of watched.values()) {
        each.done.resolve({ type: 'kept here only', reason: `the node stops: ${whyNot(each)}` })
      }
      watched.clear()
    },
  }
}
