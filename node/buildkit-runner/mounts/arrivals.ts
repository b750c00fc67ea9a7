/**
 * Snapshots that other nodes made: statements come with the news, and their documents are brought for scopes that are
 * built here. A statement is often quicker than the advert of the blob that it names, and a peer may be away: what
 * cannot be had now is asked for again, less and less often.
 */
import { type Digest, digestOf } from '../../../core/digest.ts'
import { describeError, toHearthError } from '../../../core/errors.ts'
import type { Logger } from '../../../core/log.ts'
import { type Scope, type ScopeId, scopeId } from '../../../core/scope.ts'
import type { FragmentNews, FragmentStatement } from '../../../mesh/fragments/index.ts'
import type { CacheStore } from '../../cache-store/index.ts'
import type { S3Tier } from '../../cache-store/s3-tier/index.ts'
import type { BlobSources } from '../../cache-store/sources/index.ts'
import { documentBytesMax } from './document.ts'
import { readBlob } from './small-blobs.ts'

export interface MountArrivals extends AsyncDisposable {
  /** The scope is built here. Resolves when all that can be had at once is here; never rejects. */
  want(scope: Scope): Promise<void>
}

export interface MountArrivalsDeps {
  news: FragmentNews
  sources: BlobSources
  store: CacheStore
  s3: Pick<S3Tier, 'fragments'> | undefined
  has: (scope: Scope, digest: Digest) => boolean
  /** @throws HearthError `corrupt`, `version` for what is never to be asked for again. */
  take: (scope: Scope, digest: Digest, sequence: number, bytes: Uint8Array) => Promise<void>
  log: Logger
}

interface Wanted {
  readonly scope: Scope
  readonly useless: Set<Digest>
  round: Promise<void> | undefined
  listedAtMs: number | undefined
  retry: NodeJS.Timeout | undefined
  retries: number
}

const retryMs = 250
const retryMsMax = 60_000
/** With doubling waits, ten minutes; the next build asks again. */
const retriesMax = 16
/** What nodes that are gone have left in the object store is looked for that often, at most. */
const listingMs = 5 * 60_000

export function createMountArrivals(deps: MountArrivalsDeps): MountArrivals {
  const { news, sources, store, s3, log } = deps
  const wanted = new Map<ScopeId, Wanted>()
  const stopping = new AbortController()
  const { signal } = stopping

  const missing = ({ scope, useless }: Wanted): FragmentStatement[] =>
    news
      .of(scope)
      .map(({ statement }) => statement)
      .filter(({ digest }) => !useless.has(digest) && !deps.has(scope, digest))
      .reverse()

  async function bring(from: Wanted, statement: FragmentStatement): Promise<void> {
    const { scope, digest, size, sequence, maker } = statement
    try {
      const brought = await sources.bring(scope, { digest, size }, { signal })
      if (brought.type === 'missed') return
      using _pin = store.pin(scope, [digest])
      const bytes = await readBlob(
        store,
        scope,
        { digest, size },
        { bytesMax: documentBytesMax, signal },
      )
      await deps.take(scope, digest, sequence, bytes)
    } catch (error) {
      if (signal.aborted) return
      const { code } = toHearthError(error)
      if (code === 'corrupt' || code === 'version') from.useless.add(digest)
      const reason = describeError(error)
      log.warn({ scope: scopeId(scope), digest, maker, reason }, 'a mount snapshot is not used')
    }
  }

  async function list(from: Wanted): Promise<void> {
    const { scope } = from
    const nowMs = performance.now()
    if (s3 === undefined) return
    if (from.listedAtMs !== undefined && nowMs - from.listedAtMs < listingMs) return
    from.listedAtMs = nowMs
    const known = new Set(
      news
        .of(scope)
        .map(({ statement }) => statement.digest)
        .filter((digest) => deps.has(scope, digest)),
    )
    for (const stored of await s3.fragments(scope, { kind: 'mount', known, signal })) {
      if (!(await news.add(stored.statement))) {
        log.warn(
          { scope: scopeId(scope) },
          'a mount snapshot in the object store was made by no member',
        )
        continue
      }
      const digest = digestOf(stored.bytes)
      const found = news.of(scope).find(({ statement }) => statement.digest === digest)
      if (found !== undefined && !deps.has(scope, digest)) {
        await deps.take(scope, digest, found.statement.sequence, stored.bytes)
      }
    }
  }

  async function runRound(from: Wanted): Promise<void> {
    await list(from).catch((error: unknown) => {
      const reason = describeError(error)
      log.warn({ scope: scopeId(from.scope), reason }, 'the object store lists no mount snapshots')
    })
    await Promise.all(missing(from).map((statement) => bring(from, statement)))
  }

  /** One round at a time; who asks during one gets that one. */
  function round(from: Wanted): Promise<void> {
    from.round ??= runRound(from).finally(() => {
      from.round = undefined
      if (signal.aborted || missing(from).length === 0) from.retries = 0
      else retryLater(from)
    })
    return from.round
  }

  function retryLater(from: Wanted): void {
    clearTimeout(from.retry)
    if (from.retries >= retriesMax || signal.aborted) return
    const waitMs = Math.min(retryMsMax, retryMs * 2 ** from.retries)
    from.retries += 1
    from.retry = setTimeout(() => void round(from), waitMs).unref()
  }

  const listening = news.onNews(({ statement }) => {
    const from = wanted.get(scopeId(statement.scope))
    if (from === undefined || deps.has(statement.scope, statement.digest)) return
    from.retries = 0
    // Its turn comes with the round that runs, or with one soon.
    if (from.round === undefined) retryLater(from)
  })

  return {
    async want(scope) {
      const id = scopeId(scope)
      const nothing = { round: undefined, listedAtMs: undefined, retry: undefined, retries: 0 }
      const from = wanted.get(id) ?? { scope, useless: new Set<Digest>(), ...nothing }
      wanted.set(id, from)
      from.retries = 0
      await round(from)
    },
    async [Symbol.asyncDispose]() {
      listening[Symbol.dispose]()
      stopping.abort()
      for (const from of wanted.values()) clearTimeout(from.retry)
      await Promise.all(Array.from(wanted.values(), (from) => from.round))
    },
  }
}
