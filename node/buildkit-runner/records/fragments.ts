/** Keeps fragments, takes those of others, and composes each scope's record from them. */
import type { Digest } from '../../../core/digest.ts'
import { describeError } from '../../../core/errors.ts'
import { formatVersions } from '../../../core/format-version.ts'
import type { Logger } from '../../../core/log.ts'
import { type Scope, scopeId } from '../../../core/scope.ts'
import type { FragmentStatement } from '../../../mesh/fragments/index.ts'
import type { Member, Mesh } from '../../../mesh/index.ts'
import type { KeyedOperation } from '../../../plan/index.ts'
import type { BlobInfo, CacheStore } from '../../cache-store/index.ts'
import type { S3Tier } from '../../cache-store/s3-tier/index.ts'
import type { BlobSources, Whereabouts } from '../../cache-store/sources/index.ts'
import { createArrivals } from './arrivals.ts'
import { writeDocument } from './documents.ts'
import { readExportedRecord } from './exported-record.ts'
import { readFragment, writeFragment } from './fragment.ts'
import { openFragmentRows } from './fragment-rows.ts'
import { compareText, type Graph, usefulPart } from './graph.ts'
import type { ComposedRecord, KeepResult, Records } from './index.ts'
import { createJoining } from './joining.ts'
import { createKeeping } from './keeping.ts'
import { lackedLine } from './lacked.ts'
import { covers, type FragmentLabel, type KeptFragment, type ScopeRecord } from './scope-record.ts'
import { createScopeRecords } from './scope-records.ts'
import { createSecondCopies } from './second-copies.ts'
import type { ServedRecord } from './serve-record.ts'
import { labelSteps, layersOfSteps, withEarlierLabels } from './step-results.ts'
import { inSlices } from './steps.ts'

export interface RecordsDeps {
  store: CacheStore
  /** Where blobs are that are not here. Absent: nowhere. */
  sources?: BlobSources | undefined
  /** Absent: this node is alone. */
  mesh?: Pick<Mesh, 'fragments' | 'holdersOf' | 'host' | 'relay'> | undefined
  s3?: Pick<S3Tier, 'name' | 'keep' | 'fragments'> | undefined
  log: Logger
}

export interface RecordsOptions {
  /** Holds the index of fragments, nothing else. */
  folder: string
  /** Of this node: of two that could hold a second copy, the one that can use it does. */
  platform?: string
  /** How long a build waits, before its record is composed, for what others know. Default 3 s. */
  readyMsMax?: number
  /** How long a report waits for a second place. Default 5 min. */
  settleMsMax?: number
}

/** A record lists everything that its scope may want; what a build then reads or exports is what it uses. */
const onOffer = { isUse: false }

/**
 * @param deps stay open until this is disposed.
 * @throws HearthError `environment`, `corrupt` when the folder cannot be used.
 */
export async function createRecords(
  deps: RecordsDeps,
  options: RecordsOptions,
): Promise<Records & AsyncDisposable> {
  const { store, sources, mesh, s3, log } = deps
  const news = mesh?.fragments
  const { readyMsMax = 3_000, settleMsMax = 5 * 60_000 } = options
  const rows = await openFragmentRows(options.folder, log)
  const onChange = new Set<(scope: Scope) => void>()

  function whereabouts(scope: Scope, blob: BlobInfo): Whereabouts | undefined {
    if (sources !== undefined) return sources.whereabouts(scope, blob)
    return store.stat(scope, blob.digest)?.size === blob.size ? 'held' : undefined
  }

  const scopes = createScopeRecords({
    rows,
    whereabouts,
    isElsewherePossible: sources !== undefined,
    log,
  })
  const { inTurn } = scopes

  /** In the scope's turn. @param fragment.bytes absent when they are in its row. */
  async function join(
    scope: Scope,
    record: ScopeRecord,
    { bytes, ...fragment }: KeptFragment & { bytes: Uint8Array },
  ): Promise<void> {
    const { digest } = fragment
    const gone = await inSlices(record.add(fragment))
    const known = record.fragments.get(digest)
    const put = known && {
      digest,
      row: { version: formatVersions.fragment, ...labelOf(known), bytes },
    }
    await rows.replace(scope, { put, remove: gone })
    await giveUp(scope, gone)
    for (const tell of onChange) tell(scope)
  }

  async function giveUp(scope: Scope, gone: readonly Digest[]): Promise<void> {
    if (gone.length === 0) return
    await news?.forget(scope, gone)
    for (const digest of gone) {
      keeping?.unwatch(scope, digest)
      secondCopies?.forget(scope, digest)
      await store.remove(scope, digest)
    }
  }

  function has(statement: FragmentStatement): boolean {
    const record = scopes.known(statement.scope)
    if (record === undefined) return true
    const known = record.fragments.get(statement.digest)
    return known !== undefined && covers(known, statement)
  }

  /**
   * Whoever is elsewhere asked for a blob knows no scopes, and a layer that BuildKit takes for foreign is in its
   * manifest without ever having been pushed: so what the scope does not hold must be in its record already.
   */
  const canBeHad = (scope: Scope, { union }: ScopeRecord) => {
    return (blob: BlobInfo): boolean => {
      if (store.stat(scope, blob.digest)?.size === blob.size) return true
      return union.descriptors.has(blob.digest) && whereabouts(scope, blob) !== undefined
    }
  }

  const others = (): readonly Member[] =>
    mesh?.host.members().filter(({ membership }) => membership.roles.includes('node')) ?? []

  async function setKept(scope: Scope, digest: Digest): Promise<void> {
    await inTurn(scope, async () => {
      const record = await scopes.load(scope)
      const known = record.fragments.get(digest)
      const bytes = rows.get(scope, digest)?.bytes
      if (known === undefined || bytes === undefined || known.isKept) return
      await join(scope, record, { ...known, isKept: true, bytes })
      const { sequence } = known
      await news?.publish({ scope, digest, size: bytes.length, sequence, isKept: true })
    })
  }

  const keeping =
    news === undefined || mesh === undefined
      ? undefined
      : createKeeping(
          {
            news,
            s3,
            holders: (digest) => mesh.holdersOf(digest).length,
            isHeld: (scope, digest) => store.stat(scope, digest) !== undefined,
            others: () => {
              const all = others()
              return { members: all.length, connected: all.filter((each) => each.connected).length }
            },
            setKept,
            log,
          },
          { limitMs: settleMsMax },
        )

  const arrivals =
    news === undefined || sources === undefined
      ? undefined
      : createArrivals({
          news,
          sources,
          store,
          s3,
          has,
          take: ({ statement, bytes, graph }) =>
            inTurn(statement.scope, async () => {
              const { scope, digest, sequence, isKept } = statement
              const record = await scopes.load(scope)
              if (has(statement)) return
              await join(scope, record, { digest, sequence, isKept, graph, bytes })
              scopes.refreshSoon(scope, record)
            }),
          relabel: ({ scope, digest, sequence, isKept }) =>
            inTurn(scope, async () => {
              const record = await scopes.load(scope)
              const known = record.fragments.get(digest)
              const bytes = rows.get(scope, digest)?.bytes
              if (known === undefined || bytes === undefined) return false
              await join(scope, record, { ...known, sequence, isKept, bytes })
              scopes.refreshSoon(scope, record)
              return true
            }),
          log,
        })

  const joining =
    mesh === undefined || arrivals === undefined ? undefined : createJoining({ mesh, arrivals })

  const secondCopies =
    mesh === undefined || sources === undefined || s3 !== undefined
      ? undefined
      : createSecondCopies({
          sources,
          store,
          self: { peerId: mesh.host.peerId, platform: options.platform },
          holders: (digest) => mesh.holdersOf(digest).length,
          peers: () =>
            others()
              .filter(({ connected }) => connected)
              .map(candidateOf),
          log,
        })

  const listening = news?.onNews((known) => {
    secondCopies?.noticed(known.statement)
    arrivals?.noticed(known)
  })

  /** What was kept by an earlier life and is not told, or not known to be elsewhere. */
  async function resume(): Promise<void> {
    if (news === undefined) return
    for (const scope of rows.scopes()) {
      const told = new Map(news.of(scope).map(({ statement }) => [statement.digest, statement]))
      for (const { digest, row } of rows.ofScope(scope)) {
        const statement = told.get(digest)
        // As it was before there was a mesh: kept, when this node was alone.
        const { bytes, sequence, isKept = true } = row
        if (statement === undefined) {
          await news.publish({ scope, digest, size: bytes.length, sequence, isKept })
        }
        const isOwn = statement === undefined || statement.maker === mesh?.host.peerId
        if (isOwn && !(statement?.isKept ?? isKept)) watchOver(scope, { digest, sequence, bytes })
      }
    }
  }

  function watchOver(
    scope: Scope,
    fragment: { digest: Digest; sequence: number; bytes: Uint8Array; graph?: Graph },
  ): void {
    const { digest, bytes, sequence, graph = readFragment(bytes, sequence) } = fragment
    const blobs = Array.from(graph.descriptors.values(), ({ descriptor }) => ({
      digest: descriptor.digest,
      size: descriptor.size,
    }))
    keeping?.watch({ scope, digest, bytes, sequence, blobs })
    if (mesh === undefined) return
    const statement = { scope, digest, size: bytes.length, sequence, isKept: false }
    secondCopies?.noticed({ ...statement, maker: mesh.host.peerId })
  }

  async function keepInTurn(
    scope: Scope,
    exported: Graph,
    operations: readonly KeyedOperation[],
  ): Promise<KeepResult> {
    const record = await scopes.load(scope)
    const steps = withEarlierLabels(exported, labelSteps(exported, operations), graphsOf(record))
    const graph = { ...exported, steps }
    const { digest, bytes } = writeFragment(graph)
    const known = record.fragments.get(digest)
    const isBlob = store.stat(scope, digest) !== undefined
    if (known === undefined || !isBlob) await writeDocument(store, scope, { digest, bytes })
    const latest = Math.max(record.latest, news?.latest(scope) ?? 0)
    // The common case, an unchanged build: nothing to write.
    const isLatest = known?.sequence === latest
    const sequence = isLatest ? latest : latest + 1
    const isAlone = s3 === undefined && others().length === 0
    const isKept = known?.isKept ?? isAlone
    if (!isLatest) {
      await join(scope, record, { digest, sequence, isKept, graph, bytes })
      await news?.publish({ scope, digest, size: bytes.length, sequence, isKept })
    }
    const isHere = [...graph.descriptors.keys()].every(
      (blob) => store.stat(scope, blob) !== undefined,
    )
    // Kept by somebody else's word, who may be the only one that holds what this build did not read.
    if (!isKept || !isHere || s3 !== undefined) watchOver(scope, { digest, sequence, bytes, graph })
    await scopes.refresh(scope, record)
    return { fragment: digest, added: known === undefined }
  }

  const resuming = resume().catch((error: unknown) => {
    log.warn({ error: describeError(error) }, 'fragments of an earlier life are not all told')
  })

  return {
    async keep(scope, manifest, { operations = [] } = {}) {
      const record = await scopes.load(scope)
      const isHad = canBeHad(scope, record)
      const exported = await readExportedRecord(store, scope, manifest, isHad)
      const graph = usefulPart(exported)
      if (graph.records.size === 0) {
        log.info({ scope: scopeId(scope), manifest }, 'an exported record has no layer to be had')
        return { fragment: writeFragment(graph).digest, added: false }
      }
      return await inTurn(scope, () => keepInTurn(scope, graph, operations))
    },
    async settled(scope, fragment, { signal }) {
      return (await keeping?.settled(scope, fragment, { signal })) ?? { type: 'kept' }
    },
    async ready(scope, { steps = new Set<Digest>(), signal }) {
      const limit = AbortSignal.any([signal, AbortSignal.timeout(readyMsMax)])
      const work = async (): Promise<void> => {
        const record = scopes.known(scope) ?? (await scopes.load(scope))
        await untilAborted(arrivals?.want(scope), limit)
        await joining?.untilHeard(scope, { signal: limit })
        if (!(await scopes.isCurrent(scope, record))) {
          await inTurn(scope, async () => {
            const now = await scopes.load(scope)
            if (!(await scopes.isCurrent(scope, now))) await scopes.refresh(scope, now)
          })
        }
        await scopes.narrow(scopes.known(scope) ?? record, steps)
      }
      try {
        await untilAborted(work(), limit)
      } catch (error) {
        log.warn({ scope: scopeId(scope), error: describeError(error) }, 'a record is not ready')
      }
    },
    compose(scope, { steps = new Set<Digest>() } = {}): ComposedRecord {
      const record = scopes.now(scope)
      let served = record.narrowed(steps) ?? record.served ?? scopes.refreshNow(scope, record)
      let pin = store.pin(scope, served.blobs, onOffer)
      if (hasLost(scope, record, served, pin.held)) {
        // Something was evicted since the record was made. Nothing can be between looking and pinning.
        served = scopes.refreshNow(scope, record)
        const whole = store.pin(scope, served.blobs, onOffer)
        pin[Symbol.dispose]()
        pin = whole
      }
      return {
        documents: served.documents,
        records: served.records,
        layers: served.blobs.length,
        lacked: served.lacking.map((blob) => lackedLine(blob, 'nobody is known to have it')),
        pin,
        promised(digest) {
          const size = record.union.descriptors.get(digest)?.descriptor.size
          return size === undefined ? undefined : { digest, size }
        },
        [Symbol.dispose]: () => pin[Symbol.dispose](),
      }
    },
    count: (scope) => rows.count(scope),
    scopes() {
      const all = [...rows.scopes(), ...(news?.scopes() ?? [])]
      return [...new Map(all.map((scope) => [scopeId(scope), scope])).values()]
    },
    stepLayers: (scope) => layersOfSteps(graphsOf(scopes.now(scope))),
    onChange(listener) {
      onChange.add(listener)
      return { [Symbol.dispose]: () => void onChange.delete(listener) }
    },
    async reset(scope) {
      await inTurn(scope, async () => {
        scopes.drop(scope)
        arrivals?.forget(scope)
        const known = news?.of(scope).map(({ statement }) => statement.digest) ?? []
        for (const digest of known) keeping?.unwatch(scope, digest)
        await rows.clear(scope)
        await news?.forget(scope, known)
      })
      // A build may have read the rows again meanwhile.
      scopes.drop(scope)
      for (const tell of onChange) tell(scope)
    },
    async [Symbol.asyncDispose]() {
      listening?.[Symbol.dispose]()
      await resuming
      await arrivals?.[Symbol.asyncDispose]()
      await secondCopies?.[Symbol.asyncDispose]()
      keeping?.[Symbol.dispose]()
      await scopes.idle()
      await rows[Symbol.asyncDispose]()
    },
  }

  /** What was elsewhere then is believed to be there still: `ready` has looked. */
  function hasLost(
    scope: Scope,
    { union }: ScopeRecord,
    { blobs, elsewhere }: ServedRecord,
    held: ReadonlyMap<Digest, BlobInfo>,
  ): boolean {
    if (held.size === blobs.length) return false
    return blobs.some((digest) => {
      if (held.has(digest) || elsewhere.has(digest)) return false
      const size = union.descriptors.get(digest)?.descriptor.size
      return size === undefined || whereabouts(scope, { digest, size }) === undefined
    })
  }
}

function labelOf({ sequence, isKept }: KeptFragment): FragmentLabel {
  return { sequence, isKept }
}

/** The latest last. */
function graphsOf({ fragments }: ScopeRecord): Graph[] {
  return [...fragments.values()]
    .sort((a, b) => a.sequence - b.sequence || compareText(a.digest, b.digest))
    .map(({ graph }) => graph)
}

function candidateOf({ membership }: Member) {
  const platform = membership.roles.find((role) => role.includes('/'))
  return { peerId: membership.peerId, platform }
}

async function untilAborted(work: Promise<void> | undefined, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>()
  const stop = (): void => resolve()
  signal.addEventListener('abort', stop, { once: true })
  if (signal.aborted) stop()
  try {
    await Promise.race([work, promise])
  } finally {
    signal.removeEventListener('abort', stop)
  }
}
