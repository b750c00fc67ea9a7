/**
 * Fragments of cache records, told to every member: who made which for what scope, signed by its maker, so that it
 * may be handed on by anybody and kept in an object store. The fragment's own bytes follow by the exchange.
 *
 * Promises:
 * - What is published reaches every connected member within a second or so; who was away gets the rest when it
 *   comes back. Nobody can speak for another, or for a scope in a form that could be mistaken for another's.
 * - No wall clock: statements of one scope are ordered by their sequence, which each maker sets above all it has
 *   seen, then by digest.
 */
import type { Digest } from '../../core/digest.ts'
import type { Scope } from '../../core/scope.ts'

/** 64 bytes of Ed25519 signature, then the bytes that were signed. */
export type SignedFragment = Uint8Array

export interface FragmentStatement {
  readonly scope: Scope
  /** Of the fragment's own bytes. */
  readonly digest: Digest
  /** In bytes. */
  readonly size: number
  /** Above every sequence of the scope that its maker had seen. */
  readonly sequence: number
  /** libp2p peer id of its maker, whose key signed this. */
  readonly maker: string
}

export interface KnownFragment {
  readonly statement: FragmentStatement
  readonly signed: SignedFragment
}

export interface FragmentNews extends AsyncDisposable {
  /** Signs, keeps and tells. Resolves when it is on disk. */
  publish(fragment: Omit<FragmentStatement, 'maker'>): Promise<KnownFragment>
  /** From elsewhere, as from the object store. False when it is not signed by a present or former member. */
  add(signed: SignedFragment): Promise<boolean>
  of(scope: Scope): readonly KnownFragment[]
  /** What has been superseded everywhere, or was reset: not told on any more. */
  forget(scope: Scope, digests: Iterable<Digest>): Promise<void>
  /** Called for each statement that is new here, own ones excepted; those known at the start come at once. */
  onNews(listener: (fragment: KnownFragment) => void): Disposable
}
