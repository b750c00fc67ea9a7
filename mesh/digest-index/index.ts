/**
 * The index of the mesh: which nodes hold a digest or a step's key, and how warm. A price, never a promise.
 *
 * Promises:
 * - What it says of a node is that node's log up to the position that it names, after a crash too.
 * - Asking is synchronous and costs microseconds per key; dead nodes are left out by a mask, not by a search.
 * - Writing is cut into slices of a few ms, so that the event loop stays free.
 * - After a power cut it starts empty rather than wrong: it can always be had again from the others.
 */

/**
 * The first 16 bytes of a digest or step key. Half of sha256: honest keys do not meet (2^-64 for five
 * million), and a forged twin only misleads about the price.
 */
export type IndexKey = Uint8Array

/** `hot`: ran or unpacked in its BuildKit's present state; `held`: on its disk. */
export type Heat = 'hot' | 'held'

export interface Entry {
  readonly key: IndexKey
  /** In bytes; 0 where it is unknown or has no meaning, as for step keys. */
  readonly size: number
  readonly heat: Heat
}

export type Change = { type: 'gained'; entry: Entry } | { type: 'lost'; key: IndexKey }

/**
 * The answers to many keys, by their places in the question. It is lent until the same index makes the next survey;
 * whoever asks an older one meets an assertion. Only living nodes are in it.
 */
export interface Survey {
  /** How many keys were asked. */
  readonly places: number
  /** In bytes; 0 when nobody said. */
  size(place: number): number
  isHeld(place: number): boolean
  /** @param number of a node, without `hotBit`. */
  heat(place: number, number: number): Heat | undefined
  /**
   * For each node number, the sum over the keys of what they weigh: `ofHot` where the node has it hot, else `ofHeld`
   * where it holds it, else nothing. A quick order of the nodes, to look closely at the first few.
   */
  tally(ofHeld: ArrayLike<number>, ofHot: ArrayLike<number>): Float64Array
}

/** How far a node's log is known. Epochs order the lives of a log; sequences count its batches from 1. */
export interface Position {
  readonly epoch: number
  readonly sequence: number
}

export interface Holders {
  /** In bytes; 0 when nobody said. */
  readonly size: number
  /** Numbers of the living nodes that hold it, ascending, with `hotBit` where it is hot. */
  readonly holders: Uint16Array
}

export interface DigestIndex extends AsyncDisposable {
  /** One answer per key, in the same order; undefined: no living node is known to hold it. */
  holders(keys: readonly IndexKey[]): (Holders | undefined)[]
  /** The same for questions about all nodes at once: hundreds of keys of a thousand holders in a millisecond. */
  survey(keys: readonly IndexKey[]): Survey
  /** The node with this number (without `hotBit`); undefined after it was dropped. */
  nodeOf(number: number): string | undefined
  numberOf(node: string): number | undefined
  nodes(): IndexedNode[]
  position(node: string): Position | undefined

  /**
   * Applies changes of a node that is known, and moves its position with the last of them.
   * @throws HearthError `not-found` when the node is not known.
   */
  apply(node: string, position: Position, changes: readonly Change[]): Promise<void>
  /** Starts to replace all that is known of a node; what was known holds until `commit`. */
  loadSnapshot(node: string): SnapshotLoader
  drop(node: string): void
  /** A node is dead until it is marked alive, in each life of the process. */
  markAlive(node: string): void
  markDead(node: string): void
  /** Everything known of a node, in key order: a walk over the whole index. */
  entries(node: string): Iterable<Entry>
  /** Frees the numbers of nodes that are gone; it also runs by itself. */
  scrub(options: { signal: AbortSignal }): Promise<{ numbersFreed: number }>
  /** Adds whole rows, in key order, to an empty index: for simulations too large to advertise. */
  importRows(nodes: readonly string[], rows: Iterable<ImportedRow>): void
}

export interface IndexedNode {
  readonly node: string
  readonly number: number
  readonly alive: boolean
  readonly position: Position
}

export interface SnapshotLoader extends AsyncDisposable {
  /** @throws HearthError `corrupt` when the entries are not in ascending order of keys. */
  add(entries: readonly Entry[]): Promise<void>
  commit(position: Position): Promise<void>
}

export interface ImportedRow {
  readonly key: IndexKey
  readonly size: number
  /** Indexes into `nodes`, ascending, with `hotBit`. */
  readonly holders: ArrayLike<number>
}

export { type DigestIndexOptions, openDigestIndex } from './digest-index.ts'
export { compareKeys, indexKey, keyBytes, keyOfDigest, keyOfStep } from './keys.ts'
export { hotBit } from './row.ts'
