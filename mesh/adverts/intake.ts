/**
 * What others say, into the index. A stream is read no faster than the index takes it, and of each publisher one
 * thing is applied at a time, whoever brought it.
 */
import { describeError, HearthError } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import type { DigestIndex, Position, SnapshotLoader } from '../digest-index/index.ts'
import type { FramedStream, MeshHost } from '../host/index.ts'
import { type News, openNews } from './envelope.ts'
import { advertsProtocol, decodeMessage, encodeMessage, type Message } from './messages.ts'

export interface AdvertIntake extends AsyncDisposable {
  /** Called after the index has taken news of a node. */
  onNews(listener: (publisher: string, position: Position) => void): Disposable
}

type Taken =
  | { type: 'applied' | 'known'; position: Position }
  | { type: 'gap'; position: Position }
  | { type: 'more to come' }

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

export async function createAdvertIntake(deps: {
  host: MeshHost
  index: DigestIndex
  log: Logger
}): Promise<AdvertIntake> {
  const { host, index, log } = deps
  const stopping = new AbortController()
  const serving = new Set<Promise<void>>()
  const turns = new Map<string, Promise<unknown>>()
  const listeners = new Set<(publisher: string, position: Position) => void>()

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

  const positionOf = (publisher: string) => index.position(publisher) ?? nothing

  function told(publisher: string, position: Position): Taken {
    for (const listener of listeners) listener(publisher, position)
    return { type: 'applied', position }
  }

  async function takeBatch(news: Extract<News, { type: 'batch' }>): Promise<Taken> {
    const { publisher, position, changes } = news
    const known = positionOf(publisher)
    if (!isNewer(position, known)) return { type: 'known', position: known }
    if (position.epoch !== known.epoch || position.sequence !== known.sequence + 1) {
      return { type: 'gap', position: known }
    }
    await index.apply(publisher, position, changes)
    return told(publisher, position)
  }

  /** The publisher's stream; `loading` goes from one chunk of a snapshot to the next. */
  async function serve(stream: FramedStream, peerId: string): Promise<void> {
    const signal = AbortSignal.any([stopping.signal, stream.ended])
    let loading: Loading | undefined
    let hasAsked = false
    const say = (message: Message) => stream.write(encodeMessage(message), { signal })

    async function takeChunk(news: Extract<News, { type: 'snapshot' }>): Promise<Taken> {
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
      loading = { ...current, nextChunk: news.chunk + 1, entries: current.entries + entries.length }
      await current.loader?.add(entries)
      if (!news.isLast) return { type: 'more to come' }
      loading = undefined
      return await inTurn(publisher, async () => {
        const known = index.position(publisher)
        // A relay may have brought later news meanwhile.
        if (current.loader === undefined || (known !== undefined && !isNewer(position, known))) {
          await current.loader?.[Symbol.asyncDispose]()
          return { type: 'known', position: known ?? nothing }
        }
        await current.loader.commit(position)
        return told(publisher, position)
      })
    }

    async function answer(publisher: string, taken: Taken): Promise<void> {
      if (taken.type === 'more to come') return
      const { position } = taken
      if (taken.type !== 'gap') {
        hasAsked = false
        return await say({ type: 'acknowledged', publisher, position })
      }
      // Once: what is on its way already has the same gap.
      if (hasAsked) return
      hasAsked = true
      log.info({ peer: peerId, publisher, position }, 'adverts are missing and were asked for')
      await say({ type: 'have', publisher, position })
    }

    try {
      await say({ type: 'have', publisher: peerId, position: positionOf(peerId) })
      for (;;) {
        const frame = await stream.read({ signal })
        if (frame === undefined) return
        const message = decodeMessage(frame)
        if (message.type !== 'news') throw new HearthError('corrupt', 'the peer asks here')
        const news = openNews(message.sealed)
        const { publisher } = news
        if (publisher === host.peerId) continue
        if (publisher !== peerId && host.member(publisher) === undefined) {
          throw new HearthError('forbidden', `news of ${publisher}, which is no member`)
        }
        const taken =
          news.type === 'batch'
            ? await inTurn(publisher, () => takeBatch(news))
            : await takeChunk(news)
        await answer(publisher, taken)
      }
    } finally {
      await loading?.loader?.[Symbol.asyncDispose]()
    }
  }

  for (const { node } of index.nodes()) {
    if (node !== host.peerId && host.member(node) === undefined) index.drop(node)
  }
  const listening = host.onPeer(({ type, peerId }) => {
    if (type === 'connected') index.markAlive(peerId)
    if (type === 'disconnected') index.markDead(peerId)
    if (type === 'expelled') index.drop(peerId)
  })
  await host.handle(
    advertsProtocol,
    (stream, peerId) => {
      const done = serve(stream, peerId)
        .catch((error: unknown) => {
          if (stopping.signal.aborted || stream.ended.aborted) return
          log.warn({ peer: peerId, reason: describeError(error) }, 'adverts of a peer were refused')
        })
        .finally(() => {
          stream.abort('the intake ended')
          serving.delete(done)
        })
      serving.add(done)
    },
    { streamsPerPeerMax: 4 },
  )

  return {
    onNews(listener) {
      listeners.add(listener)
      return { [Symbol.dispose]: () => void listeners.delete(listener) }
    },
    async [Symbol.asyncDispose]() {
      listening[Symbol.dispose]()
      stopping.abort()
      await Promise.all(serving)
    },
  }
}

function isNewer(position: Position, known: Position): boolean {
  return (
    position.epoch > known.epoch ||
    (position.epoch === known.epoch && position.sequence > known.sequence)
  )
}
