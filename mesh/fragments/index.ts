/**
 * Fragments of cache records, told to every member: who made which for what scope, signed by its maker, so that it
 * may be handed on by anybody and kept in an object store. The fragment's own bytes follow by the exchange.
 *
 * Promises:
 * - What is published reaches every connected member within a second or so; who was away gets the rest when it
 *   comes back, also when the maker is gone by then. Nobody can speak for another, or for a scope in a form that could
 *   be mistaken for another's.
 * - A statement carries the membership under which it was made: it counts also when its maker is no member any
 *   more, and where nobody has ever heard of it. What a member says after it was expelled does not count.
 * - No wall clock: statements of one scope are ordered by their sequence, which each maker sets above all it has
 *   seen, then by digest.
 * - Bounded on disk, whatever a member says (mesh/limits.ts).
 */
import type { Digest } from '../../core/digest.ts'
import type { Scope } from '../../core/scope.ts'

/**
 * What the fragments are of: cache records, or the snapshots of cache mounts. Each has its own protocol and folder, and
 * what is signed for one counts for no other.
 */
export type FragmentSubject = 'records' | 'mounts'

/** Signature, what was signed, and the maker's membership (statement.ts). To everybody else, bytes. */
export type SignedFragment = Uint8Array

export interface FragmentStatement {
  readonly scope: Scope
  /** Of the fragment's own bytes. */
  readonly digest: Digest
  /** In bytes. */
  readonly size: number
  /** Above every sequence of the scope that its maker had seen. */
  readonly sequence: number
  /**
   * The maker knew it and its blobs to be somewhere else too, on a second node or in the object store. What is not
   * kept can vanish with its maker, so it makes nothing else superfluous.
   */
  readonly isKept: boolean
  /** libp2p peer id of its maker, whose key signed this. */
  readonly maker: string
}

export interface KnownFragment {
  readonly statement: FragmentStatement
  readonly signed: SignedFragment
}

/** What a maker says; not kept unless it says so. */
export type OwnFragment = Omit<FragmentStatement, 'maker' | 'isKept'> & {
  readonly isKept?: boolean
}

export interface FragmentNews extends AsyncDisposable {
  /**
   * Signs, keeps and tells. Resolves when it is on disk. The same fragment again, with a higher sequence or kept,
   * takes the place of what was said before.
   * @throws HearthError `exhausted` when the disk is full.
   */
  publish(fragment: OwnFragment): Promise<KnownFragment>
  /** Signs what is to be stored elsewhere, and tells nobody. */
  sign(fragment: OwnFragment): KnownFragment
  /** From elsewhere, as from the object store. False when it is not signed by a present or former member. */
  add(signed: SignedFragment): Promise<boolean>
  /** The first said first. */
  of(scope: Scope): readonly KnownFragment[]
  /** The highest sequence that was ever seen of the scope, by this folder; 0 when none was. */
  latest(scope: Scope): number
  scopes(): Scope[]
  /** What has been superseded everywhere, or was reset: not told on any more, and not taken from others. */
  forget(scope: Scope, digests: Iterable<Digest>): Promise<void>
  /** Whether this peer has told, since it was last connected, what it knew of the scope then. */
  hasTold(peerId: string, scope: Scope): boolean
  /** Called for each statement that comes from elsewhere; those known at the start come at once, whosever they are. */
  onNews(listener: (fragment: KnownFragment) => void): Disposable
}

export { createFragmentNews, type FragmentNewsDeps, type FragmentNewsOptions } from './news.ts'
