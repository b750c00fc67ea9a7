/**
 * What others say of themselves over their own streams, into the index. A stream is read no faster than the index
 * takes it.
 */
import { describeError, HearthError } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import type { DigestIndex } from '../digest-index/index.ts'
import type { FramedStream, MeshHost } from '../host/index.ts'
import { advertsProtocol, decodeMessage, encodeMessage, type Message } from './messages.ts'
import type { NewsDesk, Taken } from './news-desk.ts'

export type AdvertIntake = AsyncDisposable

export async function createAdvertIntake(deps: {
  host: MeshHost
  index: DigestIndex
  desk: NewsDesk
  log: Logger
}): Promise<AdvertIntake> {
  const { host, index, desk, log } = deps
  const stopping = new AbortController()
  const serving = new Set<Promise<void>>()

  for (const { node } of index.nodes()) {
    if (node !== host.peerId && host.member(node) === undefined) index.drop(node)
  }
  const listening = host.onPeer(({ type, peerId }) => {
    if (type === 'expelled') index.drop(peerId)
  })
  await host.handle(
    advertsProtocol,
    (stream, peerId) => {
      const { signal } = stopping
      const done = readNews({ desk, log }, stream, { peerId, signal })
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
    { streamsPerPeerMax: 4, isForNeighbours: true },
  )

  return {
    async [Symbol.asyncDispose]() {
      listening[Symbol.dispose]()
      stopping.abort()
      await Promise.all(serving)
    },
  }
}

/**
 * Asks a publisher for what is not known of it and reads until its stream ends.
 * @param options.taken called after each piece of news.
 * @throws HearthError what ended it, as `forbidden` and `corrupt` for news that do not count.
 */
export async function readNews(
  deps: { desk: NewsDesk; log: Logger },
  stream: FramedStream,
  options: { peerId: string; signal: AbortSignal; taken?: (taken: Taken) => void },
): Promise<void> {
  const { desk, log } = deps
  const { peerId } = options
  const signal = AbortSignal.any([options.signal, stream.ended])
  let hasAsked = false
  const say = (message: Message) => stream.write(encodeMessage(message), { signal })

  async function answer(taken: Taken): Promise<void> {
    if (taken.type === 'more to come') return
    const { publisher, position } = taken
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

  await using reader = desk.reader(peerId)
  await say({ type: 'have', publisher: peerId, position: desk.positionOf(peerId) })
  for (;;) {
    const frame = await stream.read({ signal })
    if (frame === undefined) return
    const message = decodeMessage(frame)
    if (message.type !== 'news') throw new HearthError('corrupt', 'the peer asks here')
    const taken = await reader.take(message.sealed)
    await answer(taken)
    options.taken?.(taken)
  }
}
