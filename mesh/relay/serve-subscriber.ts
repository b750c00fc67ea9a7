/**
 * A hub's telling of one subscriber, over one stream: who is a member, who is there, and what is new, merged into one
 * batch a second. What is due is kept as places and names, so a slow subscriber costs no memory.
 */
import { HearthError } from '../../core/errors.ts'
import { createBell } from '../adverts/bell.ts'
import { isNewer } from '../adverts/index.ts'
import type { DigestIndex, Position } from '../digest-index/index.ts'
import type { FramedStream, MeshHost } from '../host/index.ts'
import { relayGapMs } from '../limits.ts'
import {
  decodeRelayMessage,
  encodeRelayMessage,
  listedPerMessage,
  membershipsPerMessage,
  newsBytesPerMessage,
  type PublisherPosition,
  type RelayMessage,
} from './messages.ts'
import type { Presence } from './presence.ts'
import type { RelayedNews, RelayLog } from './relay-log.ts'

export interface HubDeps {
  host: MeshHost
  index: DigestIndex
  presence: Presence
  relayLog: RelayLog
  /** Rings when there is anything new. */
  onNews(listener: () => void): Disposable
}

export interface Subscriber {
  readonly peerId: string
  /** A hub hears only what this one was told by the publishers and peers themselves. */
  readonly isHub: boolean
}

const publishersMax = 20_000
/** A wait without end, as timers go. */
const longMs = 60 * 60_000

/** Until the stream ends. @throws HearthError what ended it. */
export async function serveSubscriber(
  deps: HubDeps,
  stream: FramedStream,
  subscriber: Subscriber,
  options: { signal: AbortSignal; gapMs?: number },
): Promise<void> {
  const { host, index, presence, relayLog } = deps
  const signal = AbortSignal.any([options.signal, stream.ended])
  const gapMs = options.gapMs ?? relayGapMs
  const bell = createBell()
  /** Peers of whom something may have to be said, and what was said last. */
  const duePresence = new Set<string>(presence.present())
  const dueMembers = new Set<string>(host.members().map(({ membership }) => membership.peerId))
  const toldPresent = new Set<string>()

  using _presence = presence.onChange((peerId) => {
    duePresence.add(peerId)
    bell.ring()
  })
  using _members = host.onMember(({ peerId }) => {
    dueMembers.add(peerId)
    bell.ring()
  })
  using _news = deps.onNews(() => bell.ring())

  const isFor = ({ publisher, isDirect }: RelayedNews) =>
    publisher !== subscriber.peerId && (isDirect || !subscriber.isHub)
  const isThere = (peerId: string) =>
    peerId !== subscriber.peerId &&
    (subscriber.isHub ? presence.isConnected(peerId) : presence.isPresent(peerId))
  const say = (message: RelayMessage) => stream.write(encodeRelayMessage(message), { signal })

  async function sayMembers(): Promise<void> {
    const memberships = [...dueMembers].flatMap((peerId) => host.membershipOf(peerId) ?? [])
    dueMembers.clear()
    for (const some of inParts(memberships, membershipsPerMessage)) {
      await say({ type: 'members', memberships: some })
    }
  }

  async function sayPresence(): Promise<void> {
    const came: string[] = []
    const gone: string[] = []
    for (const peerId of duePresence) {
      if (isThere(peerId) === toldPresent.has(peerId)) continue
      if (toldPresent.delete(peerId)) gone.push(peerId)
      else {
        toldPresent.add(peerId)
        came.push(peerId)
      }
    }
    duePresence.clear()
    for (const some of inParts(came, listedPerMessage)) {
      await say({ type: 'present', came: some, gone: [] })
    }
    for (const some of inParts(gone, listedPerMessage)) {
      await say({ type: 'present', came: [], gone: some })
    }
  }

  async function sayNews(news: readonly RelayedNews[]): Promise<void> {
    const behind: PublisherPosition[] = []
    let sealed: Uint8Array[] = []
    let bytes = 0
    for (const each of news) {
      if (!isFor(each)) continue
      if (each.sealed === undefined) {
        behind.push(each)
        continue
      }
      if (sealed.length > 0 && bytes + each.sealed.length + 4 > newsBytesPerMessage) {
        await say({ type: 'news', sealed })
        sealed = []
        bytes = 0
      }
      sealed.push(each.sealed)
      bytes += each.sealed.length + 4
    }
    if (sealed.length > 0) await say({ type: 'news', sealed })
    await sayBehind(behind)
  }

  async function sayBehind(positions: readonly PublisherPosition[]): Promise<void> {
    for (const some of inParts(positions, listedPerMessage)) {
      await say({ type: 'behind', positions: some })
    }
  }

  /** What it lacks of all that is known now. */
  async function catchUp(known: ReadonlyMap<string, Position>): Promise<void> {
    const behind: PublisherPosition[] = []
    for (const { node, position } of index.nodes()) {
      const from = known.get(node) ?? { epoch: 0, sequence: 0 }
      if (node === subscriber.peerId || node === host.peerId || !isNewer(position, from)) continue
      const lacked = relayLog.since(node, from)
      const last = lacked?.at(-1)
      if (lacked === undefined || last === undefined || isNewer(position, last.position)) {
        behind.push({ publisher: node, position })
      } else await sayNews(lacked)
    }
    await sayBehind(behind)
  }

  async function speak(): Promise<void> {
    const known = await readHave(stream, signal)
    let place = relayLog.end()
    await sayMembers()
    await sayPresence()
    await catchUp(known)
    for (let sentAtMs = performance.now(); ; ) {
      const due = relayLog.from(place)
      if (due === undefined) throw new HearthError('exhausted', 'the subscriber fell behind')
      if (due.length + duePresence.size + dueMembers.size === 0) {
        await bell.wait({ signal, limitMs: longMs })
        signal.throwIfAborted()
        const leftMs = sentAtMs + gapMs - performance.now()
        if (leftMs > 0) await pause(leftMs, signal)
        continue
      }
      place += due.length
      sentAtMs = performance.now()
      await sayMembers()
      await sayPresence()
      await sayNews(due)
    }
  }

  try {
    await speak()
  } finally {
    stream.abort('the relaying ended')
  }
}

async function readHave(
  stream: FramedStream,
  signal: AbortSignal,
): Promise<ReadonlyMap<string, Position>> {
  const known = new Map<string, Position>()
  for (;;) {
    const frame = await stream.read({ signal })
    if (frame === undefined) throw new HearthError('unavailable', 'the subscriber went away')
    const message = decodeRelayMessage(frame)
    if (message.type !== 'have') throw new HearthError('corrupt', 'the subscriber tells news here')
    for (const { publisher, position } of message.positions) known.set(publisher, position)
    if (known.size > publishersMax) throw new HearthError('corrupt', 'nobody knows so many peers')
    if (message.isLast) return known
  }
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await createBell().wait({ signal, limitMs: ms })
  signal.throwIfAborted()
}

function* inParts<T>(items: readonly T[], size: number): Generator<readonly T[]> {
  for (let start = 0; start < items.length; start += size) yield items.slice(start, start + size)
}
