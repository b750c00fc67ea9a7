/** A subscriber's hearing of one hub, over one stream that it opened. */
import { HearthError } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import type { NewsDesk } from '../adverts/index.ts'
import type { DigestIndex } from '../digest-index/index.ts'
import type { FramedStream, MeshHost } from '../host/index.ts'
import {
  decodeRelayMessage,
  encodeRelayMessage,
  listedPerMessage,
  type PublisherPosition,
} from './messages.ts'
import type { Presence } from './presence.ts'
import type { Pulls } from './pulls.ts'

export interface HearingDeps {
  host: MeshHost
  index: DigestIndex
  desk: NewsDesk
  presence: Presence
  pulls: Pulls
  log: Logger
}

/**
 * @param options.works called with the first word of the hub.
 * @throws HearthError what ended it.
 */
export async function hearHub(
  deps: HearingDeps,
  stream: FramedStream,
  options: { hub: string; signal: AbortSignal; works: () => void },
): Promise<void> {
  const { host, desk, presence, pulls, log } = deps
  const { hub } = options
  const signal = AbortSignal.any([options.signal, stream.ended])
  using witness = presence.hear(hub)
  await using reader = desk.reader(hub)

  async function take(sealed: Uint8Array): Promise<void> {
    try {
      const taken = await reader.take(sealed)
      if (taken.type === 'gap') pulls.want(taken.publisher, taken.news)
    } catch (error) {
      // Of a publisher that is not, or no longer, known here as a member: the hub may not have heard of that yet.
      if (!(error instanceof HearthError) || error.code !== 'forbidden') throw error
      log.info({ peer: hub, reason: error.message }, 'relayed news were left out')
    }
  }

  await sayHave(deps, stream, signal)
  for (let messages = 0; ; messages += 1) {
    const frame = await stream.read({ signal })
    if (frame === undefined) throw new HearthError('unavailable', 'the hub ended the stream')
    if (messages === 0) options.works()
    const message = decodeRelayMessage(frame)
    switch (message.type) {
      case 'members':
        host.learn(message.memberships)
        break
      case 'present':
        witness.note(message)
        witness.complete()
        break
      case 'behind':
        for (const { publisher, position } of message.positions) pulls.want(publisher, position)
        break
      case 'news':
        for (const sealed of message.sealed) await take(sealed)
        break
      case 'have':
        throw new HearthError('corrupt', 'the hub asks here')
    }
  }
}

async function sayHave(
  { index, host }: HearingDeps,
  stream: FramedStream,
  signal: AbortSignal,
): Promise<void> {
  const positions = index
    .nodes()
    .filter(({ node }) => node !== host.peerId)
    .map(({ node, position }): PublisherPosition => ({ publisher: node, position }))
  for (let start = 0; ; start += listedPerMessage) {
    const isLast = start + listedPerMessage >= positions.length
    const some = positions.slice(start, start + listedPerMessage)
    await stream.write(encodeRelayMessage({ type: 'have', positions: some, isLast }), { signal })
    if (isLast) return
  }
}
