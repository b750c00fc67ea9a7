/**
 * What a hub has heard, in the order in which it has, as far back as its memory allows. Readers keep their own place;
 * who falls behind what is kept has to begin anew.
 */
import { type AppliedNews, isNewer } from '../adverts/index.ts'
import type { Position } from '../digest-index/index.ts'
import { relayBytesMax, relayNewsMax } from '../limits.ts'

export interface RelayedNews extends AppliedNews {
  /** Heard from the publisher itself. */
  readonly isDirect: boolean
}

export interface RelayLog {
  /** The place after the newest. */
  end(): number
  append(news: AppliedNews): void
  /** From this place on; undefined when some of it is not kept any more. */
  from(place: number): readonly RelayedNews[] | undefined
  /** What leads from a reader's position to the newest; undefined when some of it is not kept. */
  since(publisher: string, known: Position): readonly RelayedNews[] | undefined
}

export function createRelayLog(options: { bytesMax?: number; newsMax?: number } = {}): RelayLog {
  const bytesMax = options.bytesMax ?? relayBytesMax
  const newsMax = options.newsMax ?? relayNewsMax
  const kept: RelayedNews[] = []
  let start = 0
  let bytes = 0
  const byPublisher = new Map<string, RelayedNews[]>()

  function forgetOldest(count: number): void {
    for (const news of kept.splice(0, count)) {
      bytes -= news.sealed?.length ?? 0
      const own = byPublisher.get(news.publisher)
      own?.shift()
      if (own?.length === 0) byPublisher.delete(news.publisher)
    }
    start += count
  }

  return {
    end: () => start + kept.length,
    append(news) {
      // A copy: what came is a part of a larger buffer.
      const sealed = news.sealed === undefined ? undefined : Buffer.from(news.sealed)
      const relayed = { ...news, sealed, isDirect: news.from === news.publisher }
      kept.push(relayed)
      bytes += sealed?.length ?? 0
      const own = byPublisher.get(news.publisher)
      if (own === undefined) byPublisher.set(news.publisher, [relayed])
      else own.push(relayed)
      // By quarters, since moving the rest costs as much as it is long.
      while (bytes > bytesMax || kept.length > newsMax) {
        forgetOldest(Math.max(1, Math.floor(kept.length / 4)))
      }
    },
    from: (place) => (place < start ? undefined : kept.slice(place - start)),
    since(publisher, known) {
      const lacked = (byPublisher.get(publisher) ?? []).filter(({ position }) =>
        isNewer(position, known),
      )
      let at = known
      const found: RelayedNews[] = []
      for (const news of lacked) {
        const follows =
          news.position.epoch === at.epoch && news.position.sequence === at.sequence + 1
        if (news.sealed === undefined || (!follows && !news.isWhole)) return undefined
        found.push(news)
        at = news.position
      }
      return found
    },
  }
}
