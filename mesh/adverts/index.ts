/**
 * Adverts: every node's signed news of what it holds, told to every member and kept in everybody's index.
 *
 * Promises:
 * - What is published or withdrawn is in the own log, on disk, and in the own index when the call resolves;
 *   the others hear of it within a second or so, as far as they can be reached.
 * - News are signed by the node they speak of: they may be relayed, and nobody else can make them.
 * - Whoever missed some gets the rest, or a snapshot; nobody's slowness makes a queue grow elsewhere.
 * - An advert is a price, never a promise: whoever asks for what was advertised must be ready for a no.
 */
import type { Entry, IndexKey, Position } from '../digest-index/index.ts'

/** What a node says of itself. */
export interface Adverts extends AsyncDisposable {
  /** After the store's own commit. What was said before of a key is replaced. */
  publish(entries: Iterable<Entry>): Promise<void>
  /** Before anything is unlinked. */
  withdraw(keys: Iterable<IndexKey>): Promise<void>
  /** Everything hot is only held from now on: BuildKit's state is another, or was pruned. */
  cool(): Promise<void>
  /** At each start: makes the log say exactly this. Entries in ascending order of keys. */
  reconcile(
    entries: AsyncIterable<Entry> | Iterable<Entry>,
  ): Promise<{ gained: number; lost: number }>
  position(): Position
}

export { createAdverts } from './adverts.ts'
export { type AdvertFeeds, createAdvertFeeds } from './feeds.ts'
export { type AdvertIntake, createAdvertIntake, readNews } from './intake.ts'
export { type AdvertLog, openAdvertLog } from './log.ts'
export { logProtocol } from './messages.ts'
export {
  type AppliedNews,
  createNewsDesk,
  isNewer,
  type NewsDesk,
  type NewsReader,
  type Taken,
} from './news-desk.ts'
