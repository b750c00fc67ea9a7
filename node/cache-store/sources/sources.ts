/** Asks in turn: this node's store, then peers and the object store, best first. See index.ts. */
import { mib } from '../../../core/limits.ts'
import { type Scope, type ScopeId, scopeId } from '../../../core/scope.ts'
import type { BlobSource, SourceFault } from '../../../mesh/exchange/index.ts'
import type { BlobInfo } from '../index.ts'
import { type Attempt, farSource, tryExchange, tryReading, type Wanted } from './attempts.ts'
import type { BlobSources, BlobSourcesDeps, BlobSourcesOptions, Brought } from './index.ts'
import { nearSources } from './peers.ts'
import { createSharedWork } from './shared-work.ts'
import { createTally } from './tally.ts'

/** With that much to move the object store helps from the beginning; below, it is asked when the peers fail. */
const largeBytes = 16 * mib

/** A blob that is evicted again and again before its asker has it: there is no room for it. */
const roundsMax = 4

interface Fetched {
  /** Peers were asked in the name of this scope. */
  readonly by: ScopeId
  readonly attempt: Attempt
}

/** @param deps stay open until this is disposed. */
export function createSources(
  deps: BlobSourcesDeps,
  options: BlobSourcesOptions = {},
): BlobSources {
  const { store, log } = deps
  const { fetchesMax = 16, aheadMax = 6, peersMax = 6 } = options
  const fetches = createSharedWork<Fetched>({ turnsMax: fetchesMax, aheadMax })
  const tally = createTally()

  const nearOf = (blob: BlobInfo): BlobSource[] => {
    if (deps.mesh === undefined || deps.exchange === undefined) return []
    return nearSources(deps.mesh.holdersOf(blob.digest), blob).slice(0, peersMax)
  }
  const isFar = ({ digest }: BlobInfo) => deps.s3?.has(digest) ?? false

  async function isHeld(scope: Scope, { digest, size }: BlobInfo): Promise<boolean> {
    if (store.size(digest) !== size) return false
    if (store.stat(scope, digest) !== undefined) return true
    return (await store.own(scope, digest)) !== undefined
  }

  function noteFault(digest: BlobInfo['digest'], fault: SourceFault): void {
    const { source, reason, message } = fault
    // An old advert, or one that rests: nothing new about the source.
    if (reason !== 'absent' && reason !== 'set aside') tally.fault(source)
    if (source === deps.s3?.name && reason !== 'set aside') {
      deps.s3.reportFault(digest, { reason, message })
    }
  }

  /** Peers first, with the object store where that helps; then the object store by whatever way. */
  async function* attempts(wanted: Wanted): AsyncGenerator<Attempt> {
    const { blob } = wanted
    const near = nearOf(blob)
    const far = isFar(blob)
    const { exchange, s3 } = deps
    const onFault = (fault: SourceFault) => noteFault(blob.digest, fault)
    const url = far && exchange !== undefined ? await farSource(deps, blob) : undefined
    if (exchange !== undefined) {
      const byExchange = (sources: readonly BlobSource[]) =>
        tryExchange({ store, log, exchange, onFault }, wanted, sources)
      const isTogether = near.length < 2 || blob.size >= largeBytes
      const first = url !== undefined && isTogether ? [...near, url] : near
      if (first.length > 0) yield await byExchange(first)
      if (url !== undefined && !isTogether) yield await byExchange([url])
    }
    if (far && url === undefined && s3 !== undefined) {
      yield await tryReading({ store, log, s3, onFault }, wanted)
    }
  }

  async function fetch(wanted: Wanted): Promise<Fetched> {
    const by = scopeId(wanted.scope)
    const { digest } = wanted.blob
    const reasons: string[] = []
    for await (const attempt of attempts(wanted)) {
      if (attempt.type === 'brought') {
        tally.brought(attempt.bytesBySource)
        return { by, attempt }
      }
      reasons.push(attempt.reason)
    }
    tally.missed()
    const reason = reasons.join('; ') || 'nobody is known to have it'
    log.info({ scope: by, digest, reason }, 'a blob could not be brought')
    return { by, attempt: { type: 'missed', reason } }
  }

  return {
    whereabouts(_scope, blob) {
      if (store.size(blob.digest) === blob.size) return 'held'
      if (nearOf(blob).length > 0) return 'near'
      return isFar(blob) ? 'far' : undefined
    },

    async bring(scope, blob, { isAhead = false, signal }) {
      let brought: Brought = { type: 'held' }
      for (let round = 0; round < roundsMax; round += 1) {
        if (await isHeld(scope, blob)) return brought
        const fetched = await fetches.join(
          blob.digest,
          (workSignal) => fetch({ scope, blob, signal: workSignal }),
          { isAhead, signal },
        )
        const { attempt } = fetched
        // Missed in the name of another scope says nothing: peers may have it for this one.
        if (attempt.type === 'missed' && fetched.by === scopeId(scope)) return attempt
        if (attempt.type === 'brought') brought = attempt
      }
      return { type: 'missed', reason: 'this node: it was evicted before it could be used' }
    },

    counts: () => tally.counts(),
    [Symbol.asyncDispose]: () => fetches[Symbol.asyncDispose](),
  }
}
