/**
 * All statements that are known, by scope, and what was forgotten of each: what is on disk, with an index in memory.
 *
 * Of one fragment only the statement of the highest rank counts: the higher sequence, then the one that says it is
 * kept. Who says it is not part of the rank, so that two nodes that made the same fragment do not take turns.
 */
import { createHash } from 'node:crypto'
import { type Digest, digestHex } from '../../core/digest.ts'
import type { Logger } from '../../core/log.ts'
import { type ScopeId, scopeId } from '../../core/scope.ts'
import { forgottenPerScopeMax, fragmentsPerMakerMax, fragmentsPerScopeMax } from '../limits.ts'
import type { FragmentStatement, KnownFragment } from './index.ts'
import { openFragmentRows, type RowWriter } from './rows.ts'
import { readStatement } from './statement.ts'

/** What somebody has of a scope: digests with their ranks, the forgotten ones too. */
export type Ranks = ReadonlyMap<Digest, number>

export interface FragmentShelf extends AsyncDisposable {
  /** In the order of their sequences. */
  of(scope: ScopeId): KnownFragment[]
  latest(scope: ScopeId): number
  scopes(): ScopeId[]
  /** Neither known nor forgotten at this rank or a higher one. */
  isNews(scope: ScopeId, digest: Digest, rank: number): boolean
  /** Keeps those that are news, within the limits. @returns those that were kept. */
  put(fragments: readonly KnownFragment[]): Promise<KnownFragment[]>
  forget(scope: ScopeId, digests: Iterable<Digest>): Promise<void>
  /** Equal for two peers that have the same statements of the scope. */
  fingerprint(scope: ScopeId): string
  ranks(scope: ScopeId): Ranks
  /** Those of the scope that whoever has `theirs` lacks. */
  lackedBy(scope: ScopeId, theirs: Ranks): KnownFragment[]
}

interface Entry {
  readonly statement: FragmentStatement
  readonly rank: number
}

interface Shelf {
  readonly entries: Map<Digest, Entry>
  readonly forgotten: Map<Digest, number>
  readonly fingerprint: Buffer
  latest: number
}

const fingerprintBytes = 16

export function rankOf({
  sequence,
  isKept,
}: Pick<FragmentStatement, 'sequence' | 'isKept'>): number {
  return sequence * 2 + (isKept ? 1 : 0)
}

/** @throws HearthError `environment`, `version` when a newer Hearth wrote it. */
export async function openShelf(folder: string, log: Logger): Promise<FragmentShelf> {
  const rows = await openFragmentRows(folder, log)
  const shelves = new Map<ScopeId, Shelf>()
  const byMaker = new Map<string, number>()

  function shelfOf(scope: ScopeId): Shelf {
    const known = shelves.get(scope)
    if (known !== undefined) return known
    const fingerprint = Buffer.alloc(fingerprintBytes)
    const shelf = { entries: new Map(), forgotten: new Map(), fingerprint, latest: 0 }
    shelves.set(scope, shelf)
    return shelf
  }

  function count(maker: string, change: number): void {
    const left = (byMaker.get(maker) ?? 0) + change
    if (left > 0) byMaker.set(maker, left)
    else byMaker.delete(maker)
  }

  function enter(shelf: Shelf, statement: FragmentStatement): void {
    leave(shelf, statement.digest)
    const entry = { statement, rank: rankOf(statement) }
    shelf.entries.set(statement.digest, entry)
    shelf.latest = Math.max(shelf.latest, statement.sequence)
    mix(shelf.fingerprint, statement.digest, entry.rank)
    count(statement.maker, 1)
  }

  function leave(shelf: Shelf, digest: Digest): Entry | undefined {
    const entry = shelf.entries.get(digest)
    if (entry === undefined) return undefined
    shelf.entries.delete(digest)
    mix(shelf.fingerprint, digest, entry.rank)
    count(entry.statement.maker, -1)
    return entry
  }

  function noteForgotten(shelf: Shelf, digest: Digest, rank: number): void {
    // Last is who was forgotten last.
    shelf.forgotten.delete(digest)
    shelf.forgotten.set(digest, rank)
    shelf.latest = Math.max(shelf.latest, Math.floor(rank / 2))
  }

  function isNews(scope: ScopeId, digest: Digest, rank: number): boolean {
    const shelf = shelves.get(scope)
    if (shelf === undefined) return true
    return rank > Math.max(shelf.entries.get(digest)?.rank ?? -1, shelf.forgotten.get(digest) ?? -1)
  }

  for (const { signed } of rows.statements()) {
    const statement = readStatement(signed)
    enter(shelfOf(scopeId(statement.scope)), statement)
  }
  for (const { key, rank } of rows.forgotten()) noteForgotten(shelfOf(key.scope), key.digest, rank)

  /** One after the other: what is in memory is what is on disk. */
  let turn: Promise<unknown> = Promise.resolve()
  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = turn.then(work)
    turn = done.catch(() => {})
    return done
  }

  function drop(scope: ScopeId, shelf: Shelf, digests: Iterable<Digest>, writer: RowWriter): void {
    for (const digest of digests) {
      const entry = leave(shelf, digest)
      if (entry === undefined) continue
      writer.remove({ scope, digest })
      noteForgotten(shelf, digest, entry.rank)
      writer.putForgotten({ scope, digest }, entry.rank)
    }
    for (const [digest] of shelf.forgotten) {
      if (shelf.forgotten.size <= forgottenPerScopeMax) break
      shelf.forgotten.delete(digest)
      writer.removeForgotten({ scope, digest })
    }
  }

  function take({ statement, signed }: KnownFragment, writer: RowWriter): boolean {
    const { digest, maker } = statement
    const scope = scopeId(statement.scope)
    if (!isNews(scope, digest, rankOf(statement))) return false
    if ((byMaker.get(maker) ?? 0) >= fragmentsPerMakerMax) {
      log.warn({ maker, scope }, 'a maker of too many fragments: this one is not taken')
      return false
    }
    const shelf = shelfOf(scope)
    enter(shelf, statement)
    writer.put({ scope, digest }, signed)
    if (shelf.forgotten.delete(digest)) writer.removeForgotten({ scope, digest })
    if (shelf.entries.size > fragmentsPerScopeMax) {
      drop(scope, shelf, [oldestOfTheGreediest(shelf.entries)], writer)
    }
    return true
  }

  /** After a transaction that failed: what is on disk counts. */
  function reread({ scope, digest }: FragmentStatement): void {
    const id = scopeId(scope)
    const shelf = shelfOf(id)
    leave(shelf, digest)
    const signed = rows.get({ scope: id, digest })
    if (signed !== undefined) enter(shelf, readStatement(signed))
  }

  const known = (entry: Entry): KnownFragment[] => {
    const { statement } = entry
    const signed = rows.get({ scope: scopeId(statement.scope), digest: statement.digest })
    return signed === undefined ? [] : [{ statement, signed }]
  }

  return {
    isNews,
    scopes: () =>
      [...shelves].filter(([, { entries }]) => entries.size > 0).map(([scope]) => scope),
    latest: (scope) => shelves.get(scope)?.latest ?? 0,
    of: (scope) => inOrder(shelves.get(scope)?.entries.values() ?? []).flatMap(known),
    put: (fragments) =>
      inTurn(async () => {
        const taken: KnownFragment[] = []
        try {
          await rows.write((writer) => {
            for (const fragment of fragments) if (take(fragment, writer)) taken.push(fragment)
          })
        } catch (error) {
          for (const { statement } of taken) reread(statement)
          throw error
        }
        return taken
      }),
    forget: (scope, digests) =>
      inTurn(async () => {
        const shelf = shelves.get(scope)
        if (shelf !== undefined) await rows.write((writer) => drop(scope, shelf, digests, writer))
      }),
    fingerprint: (scope) => shelves.get(scope)?.fingerprint.toString('base64') ?? '',
    ranks(scope) {
      const shelf = shelves.get(scope)
      const ranks = new Map(shelf?.forgotten)
      for (const [digest, { rank }] of shelf?.entries ?? []) ranks.set(digest, rank)
      return ranks
    },
    lackedBy(scope, theirs) {
      const lacked = Array.from(shelves.get(scope)?.entries ?? []).filter(
        ([digest, { rank }]) => rank > (theirs.get(digest) ?? -1),
      )
      return inOrder(lacked.map(([, entry]) => entry)).flatMap(known)
    },
    async [Symbol.asyncDispose]() {
      await turn
      await rows[Symbol.asyncDispose]()
    },
  }
}

function inOrder(entries: Iterable<Entry>): Entry[] {
  return [...entries].sort(compareEntries)
}

function compareEntries({ statement: a }: Entry, { statement: b }: Entry): number {
  return a.sequence - b.sequence || (a.digest < b.digest ? -1 : 1)
}

/** A member that floods a scope pushes out its own fragments, not those of others. */
function oldestOfTheGreediest(entries: ReadonlyMap<Digest, Entry>): Digest {
  const byMaker = Map.groupBy(entries.values(), ({ statement }) => statement.maker)
  const [most] = [...byMaker.values()].sort((a, b) => b.length - a.length)
  const [oldest] = inOrder(most ?? [])
  if (oldest === undefined) throw new Error('a full shelf is empty')
  return oldest.statement.digest
}

/** Exclusive or, so that order does not matter and what is mixed in twice is out again. */
function mix(fingerprint: Buffer, digest: Digest, rank: number): void {
  const part = createHash('sha256')
    .update(`${digestHex(digest)} ${rank}`)
    .digest()
  for (let at = 0; at < fingerprintBytes; at += 1) {
    fingerprint[at] = (fingerprint[at] ?? 0) ^ (part[at] ?? 0)
  }
}
