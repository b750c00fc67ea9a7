/**
 * Takes news into the index, whoever brought them: of each publisher one thing at a time, and only what is new. The
 * same news over several ways are applied once.
 */
import { HearthError } from '../../core/errors.ts'
import type { DigestIndex, Position, SnapshotLoader } from '../digest-index/index.ts'
import type { MeshHost } from '../host/index.ts'
import { type News, openNews } from './envelope.ts'

export type Taken = { readonly publisher: string } & (
  | { readonly type: 'applied' | 'known'; readonly position: Position }
  /** It does not follow what is known; `position` is what is, `news` what it was. */
  | { readonly type: 'gap'; readonly position: Position; readonly news: Position }
  | { readonly type: 'more to come' }
)

/** What the index has taken. */
export interface AppliedNews {
  readonly publisher: string
  readonly position: Position
  /** As the publisher signed it, all in one; undefined for a snapshot that came in several parts. */
  readonly sealed: Uint8Array | undefined
  /** A snapshot: it needs nothing before it. */
  readonly isWhole: boolean
  /** The peer that brought it. */
  readonly from: string
}

/** One stream's: the parts of a snapshot come over one. */
export interface NewsReader extends AsyncDisposable {
  /**
   * @throws HearthError `forbidden` when the publisher did not sign it or may not publish, `corrupt`, `version`.
   */
  take(sealed: Uint8Array): Promise<Taken>
}

export interface NewsDesk {
  reader(from: string): NewsReader
  positionOf(publisher: string): Position
  onApplied(listener: (news: AppliedNews) => void): Disposable
}

interface Loading {
  readonly id: string
  readonly publisher: string
  readonly nextChunk: number
  /** Undefined: what it will say is known already. */
  readonly loader: SnapshotLoader | undefined
  readonly entries: number
}

/** Far above any real node; a peer that says more is not believed. */
const snapshotEntriesMax = 4_000_000
const nothing: Position = { epoch: 0, sequence: 0 }

export function createNewsDesk(deps: { host: MeshHost; index: DigestIndex }): NewsDesk {
  const { host, index } = deps
  const turns = new Map<string, Promise<unknown>>()
  const listeners = new Set<(news: AppliedNews) => void>()

  const positionOf = (publisher: string) => index.position(publisher) ?? nothing

  function inTurn<T>(publisher: string, work: () => Promise<T>): Promise<T> {
    const done = (turns.get(publisher) ?? Promise.resolve()).then(work)
    const quiet = done
      .catch(() => {})
      .finally(() => {
        if (turns.get(publisher) === quiet) turns.delete(publisher)
      })
    turns.set(publisher, quiet)
    return done
  }

  function applied(news: AppliedNews): Taken {
    for (const listener of listeners) listener(news)
    return { type: 'applied', publisher: news.publisher, position: news.position }
  }

  function requirePublisher(publisher: string): void {
    const member = host.member(publisher)
    if (member === undefined) {
      throw new HearthError('forbidden', `news of ${publisher}, which is no member`)
    }
    if (!member.membership.roles.includes('node')) {
      throw new HearthError('forbidden', `news of ${publisher}, which is no node`)
    }
  }

  async function takeBatch(
    news: Extract<News, { type: 'batch' }>,
    sealed: Uint8Array,
    from: string,
  ): Promise<Taken> {
    const { publisher, position, changes } = news
    const known = positionOf(publisher)
    if (!isNewer(position, known)) return { type: 'known', publisher, position: known }
    if (position.epoch !== known.epoch || position.sequence !== known.sequence + 1) {
      return { type: 'gap', publisher, position: known, news: position }
    }
    await index.apply(publisher, position, changes)
    return applied({ publisher, position, sealed, isWhole: false, from })
  }

  return {
    positionOf,
    reader(from) {
      let loading: Loading | undefined

      async function takeChunk(
        news: Extract<News, { type: 'snapshot' }>,
        sealed: Uint8Array,
      ): Promise<Taken> {
        const { publisher, position, entries } = news
        if (news.chunk === 0) {
          await loading?.loader?.[Symbol.asyncDispose]()
          const isNews = isNewer(position, positionOf(publisher)) || !index.position(publisher)
          const loader = isNews ? index.loadSnapshot(publisher) : undefined
          loading = { id: news.id, publisher, nextChunk: 0, loader, entries: 0 }
        }
        const current = loading
        if (
          current?.id !== news.id ||
          current.publisher !== publisher ||
          current.nextChunk !== news.chunk ||
          current.entries + entries.length > snapshotEntriesMax
        ) {
          throw new HearthError('corrupt', `the snapshot of ${publisher} does not hang together`)
        }
        loading = {
          ...current,
          nextChunk: news.chunk + 1,
          entries: current.entries + entries.length,
        }
        await current.loader?.add(entries)
        if (!news.isLast) return { type: 'more to come', publisher }
        loading = undefined
        return await inTurn(publisher, async () => {
          const known = index.position(publisher)
          // Another way may have brought later news meanwhile.
          if (current.loader === undefined || (known !== undefined && !isNewer(position, known))) {
            await current.loader?.[Symbol.asyncDispose]()
            return { type: 'known', publisher, position: known ?? nothing }
          }
          await current.loader.commit(position)
          const whole = news.chunk === 0 ? sealed : undefined
          return applied({ publisher, position, sealed: whole, isWhole: true, from })
        })
      }

      return {
        async take(sealed) {
          const news = openNews(sealed)
          const { publisher } = news
          if (publisher === host.peerId) {
            return { type: 'known', publisher, position: positionOf(publisher) }
          }
          requirePublisher(publisher)
          return news.type === 'batch'
            ? await inTurn(publisher, () => takeBatch(news, sealed, from))
            : await takeChunk(news, sealed)
        },
        async [Symbol.asyncDispose]() {
          await loading?.loader?.[Symbol.asyncDispose]()
          loading = undefined
        },
      }
    },
    onApplied(listener) {
      listeners.add(listener)
      return { [Symbol.dispose]: () => void listeners.delete(listener) }
    },
  }
}

export function isNewer(position: Position, known: Position): boolean {
  return (
    position.epoch > known.epoch ||
    (position.epoch === known.epoch && position.sequence > known.sequence)
  )
}
