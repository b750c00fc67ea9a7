/**
 * Fragments that other nodes made: their statements come with the news, their bytes are brought for scopes that are
 * built here, and in the background. A statement is often quicker than the advert of the blob that it names, and a
 * peer may be away: what cannot be had now is asked for again, less and less often.
 */
import { type Digest, digestOf } from '../../../core/digest.ts'
import { describeError, HearthError, toHearthError } from '../../../core/errors.ts'
import type { Logger } from '../../../core/log.ts'
import { type Scope, type ScopeId, scopeId } from '../../../core/scope.ts'
import type {
  FragmentNews,
  FragmentStatement,
  KnownFragment,
} from '../../../mesh/fragments/index.ts'
import type { CacheStore } from '../../cache-store/index.ts'
import type { S3Tier } from '../../cache-store/s3-tier/index.ts'
import type { BlobSources } from '../../cache-store/sources/index.ts'
import { documentBytesMax, readDocument } from './documents.ts'
import { readFragment } from './fragment.ts'
import type { Graph } from './graph.ts'
import { fragmentsMax } from './scope-record.ts'

export interface ArrivalsDeps {
  news: FragmentNews
  sources: BlobSources
  store: CacheStore
  s3?: Pick<S3Tier, 'fragments'> | undefined
  /** Whether the scope's record holds the fragment under this statement's label, or a later one. */
  has: (statement: FragmentStatement) => boolean
  take: (fragment: ArrivedFragment) => Promise<void>
  /** For a fragment of which only the label is new. False when its bytes are not here. */
  relabel: (statement: FragmentStatement) => Promise<boolean>
  log: Logger
}

export interface ArrivedFragment {
  readonly statement: FragmentStatement
  readonly bytes: Uint8Array
  readonly graph: Graph
}

export interface Arrivals extends AsyncDisposable {
  /** A statement came. */
  noticed(known: KnownFragment): void
  /** The scope is built here from now on. Resolves when all that can be had at once is here; never rejects. */
  want(scope: Scope): Promise<void>
  /** Something that is known to be there has not come yet. */
  isLacking(scope: Scope): boolean
  /** Until somebody wants it again. */
  forget(scope: Scope): void
}

interface Wanted {
  readonly scope: Scope
  /** Can never be used: too large, of a newer Hearth, or malformed. */
  readonly useless: Set<Digest>
  round: Promise<void> | undefined
  listedAtMs: number | undefined
  retry: NodeJS.Timeout | undefined
  retries: number
}

const fetchesMax = 8
const retryMs = 250
const retryMsMax = 60_000
/** With doubling waits, ten minutes; the next build asks again. */
const retriesMax = 16
/** What nodes that are gone have left in the object store is looked for that often, at most. */
const listingMs = 5 * 60_000

export function createArrivals(deps: ArrivalsDeps): Arrivals {
  const { news, sources, store, log } = deps
  const wanted = new Map<ScopeId, Wanted>()
  const stopping = new AbortController()
  const { signal } = stopping

  const missing = ({ scope, useless }: Wanted): FragmentStatement[] =>
    news
      .of(scope)
      .map(({ statement }) => statement)
      .filter((statement) => !useless.has(statement.digest) && !deps.has(statement))
      .slice(-fragmentsMax)
      .reverse()

  async function bring(from: Wanted, statement: FragmentStatement): Promise<void> {
    const { scope, digest, size, maker } = statement
    try {
      if (await deps.relabel(statement)) return
      if (size > documentBytesMax) throw new HearthError('invalid-input', `it has ${size} bytes`)
      const brought = await sources.bring(scope, { digest, size }, { signal })
      if (brought.type === 'missed') return
      using _pin = store.pin(scope, [digest])
      const bytes = await readDocument(store, scope, digest)
      await accept(statement, bytes)
    } catch (error) {
      if (signal.aborted) return
      const { code } = toHearthError(error)
      if (code === 'invalid-input' || code === 'version') from.useless.add(digest)
      const reason = describeError(error)
      log.warn({ scope: scopeId(scope), fragment: digest, maker, reason }, 'a fragment is not used')
    }
  }

  async function accept(statement: FragmentStatement, bytes: Uint8Array): Promise<void> {
    if (deps.has(statement)) return
    await deps.take({ statement, bytes, graph: readFragment(bytes, statement.sequence) })
  }

  /** What was made by nodes of which nobody in the mesh knows. */
  async function list(from: Wanted): Promise<void> {
    const { scope } = from
    const nowMs = performance.now()
    if (deps.s3 === undefined) return
    if (from.listedAtMs !== undefined && nowMs - from.listedAtMs < listingMs) return
    from.listedAtMs = nowMs
    const known = new Set(
      news
        .of(scope)
        .filter(({ statement }) => deps.has(statement))
        .map(({ statement }) => statement.digest),
    )
    for (const stored of await deps.s3.fragments(scope, { known, signal })) {
      if (!(await news.add(stored.statement))) {
        log.warn({ scope: scopeId(scope) }, 'a fragment in the object store was made by no member')
        continue
      }
      const digest = digestOf(stored.bytes)
      const found = news.of(scope).find(({ statement }) => statement.digest === digest)
      if (found !== undefined) await accept(found.statement, stored.bytes)
    }
  }

  async function runRound(from: Wanted): Promise<void> {
    const listing = list(from).catch((error: unknown) => {
      const reason = describeError(error)
      log.warn({ scope: scopeId(from.scope), reason }, 'the object store lists no fragments')
    })
    const left = missing(from)
    const some = Array.from({ length: Math.min(fetchesMax, left.length) }, async () => {
      for (let next = left.shift(); next !== undefined; next = left.shift()) await bring(from, next)
    })
    await Promise.all([listing, ...some])
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
    if (from.retries >= retriesMax || wanted.get(scopeId(from.scope)) !== from) return
    const waitMs = Math.min(retryMsMax, retryMs * 2 ** from.retries)
    from.retries += 1
    from.retry = setTimeout(() => void round(from), waitMs).unref()
  }

  return {
    noticed({ statement }) {
      const from = wanted.get(scopeId(statement.scope))
      if (from === undefined || deps.has(statement)) return
      from.retries = 0
      // Its turn comes with the round that runs, or with one soon.
      if (from.round === undefined) retryLater(from)
    },
    async want(scope) {
      const id = scopeId(scope)
      const from = wanted.get(id) ?? {
        scope,
        useless: new Set<Digest>(),
        round: undefined,
        listedAtMs: undefined,
        retry: undefined,
        retries: 0,
      }
      wanted.set(id, from)
      from.retries = 0
      await round(from)
    },
    isLacking(scope) {
      const from = wanted.get(scopeId(scope))
      return from !== undefined && missing(from).length > 0
    },
    forget(scope) {
      const from = wanted.get(scopeId(scope))
      clearTimeout(from?.retry)
      wanted.delete(scopeId(scope))
    },
    async [Symbol.asyncDispose]() {
      stopping.abort()
      for (const from of wanted.values()) clearTimeout(from.retry)
      await Promise.all(Array.from(wanted.values(), (from) => from.round))
    },
  }
}
