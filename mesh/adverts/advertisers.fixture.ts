/** Peers that advertise, for tests: real hosts, logs and indexes, each in a folder of its own. */
import net, { type AddressInfo, type Socket } from 'node:net'
import path from 'node:path'
import type { ExecutionContext } from 'ava'
import { silentLogger } from '../../core/log.ts'
import { type DigestIndex, type Entry, openDigestIndex } from '../digest-index/index.ts'
import { describeEntry, testKey } from '../digest-index/temporary-index.fixture.ts'
import { createMembershipVerifier } from '../membership/index.ts'
import { eventually, type Peer, type PeerOptions, type Realm, startPeer } from '../peers.fixture.ts'
import { createRelay, type Relay, type RelayOptions, type Ties } from '../relay/index.ts'
import {
  type AdvertLog,
  type Adverts,
  createAdvertFeeds,
  createAdvertIntake,
  createAdverts,
  createNewsDesk,
  type NewsDesk,
  openAdvertLog,
} from './index.ts'

export interface Advertiser extends Peer {
  readonly index: DigestIndex
  readonly adverts: Adverts
  readonly advertLog: AdvertLog
  readonly desk: NewsDesk
  readonly relay: Relay
}

export interface AdvertiserOptions extends PeerOptions {
  relay?: RelayOptions
  batchesMax?: number
  ackStallMs?: number
}

export async function startAdvertiser(
  t: ExecutionContext,
  realm: Realm,
  options: AdvertiserOptions = {},
): Promise<Advertiser> {
  const ties: Ties = { tieTo: () => 'kept' }
  const tieTo: PeerOptions['tieTo'] = ({ peerId }) => ties.tieTo(peerId)
  const peer = await startPeer(t, realm, { ...options, tieTo })
  const log = options.log ?? silentLogger
  const { host, folder, identity } = peer
  const { signingKey } = identity
  const open = new AsyncDisposableStack()
  const index = open.use(await openDigestIndex({ folder: path.join(folder, 'digest-index'), log }))
  const advertLog = open.use(
    await openAdvertLog({
      folder: path.join(folder, 'advert-log'),
      publisher: host.peerId,
      signingKey,
      ...(options.batchesMax === undefined ? {} : { batchesMax: options.batchesMax }),
    }),
  )
  const adverts = open.use(await createAdverts({ log: advertLog, index }))
  const desk = createNewsDesk({ host, index })
  const verifier = createMembershipVerifier({ publicKeys: [realm.publicKey] })
  const isHub = () => {
    const verdict = verifier.verify(host.membership(), host.peerId)
    return verdict.type === 'valid' && verdict.membership.roles.includes('hub')
  }
  const relay = open.use(await createRelay({ host, index, desk, ties, isHub, log }, options.relay))
  open.use(await createAdvertIntake({ host, index, desk, log }))
  const { ackStallMs } = options
  const timing = ackStallMs === undefined ? {} : { ackStallMs }
  open.use(await createAdvertFeeds({ host, advertLog, signingKey, log }, timing))
  let stopped: Promise<void> | undefined
  const stop = () => {
    stopped ??= (async () => {
      // The intake of a stopped host has no streams left to wait for.
      await open.disposeAsync()
      await peer.stop()
    })()
    return stopped
  }
  t.teardown(stop)
  return { ...peer, index, adverts, advertLog, desk, relay, stop }
}

export const held = (number: number, size = 100): Entry => ({
  key: testKey(number),
  size,
  heat: 'held',
})

/** What a log says, as `contentOf` says of an index. */
export function contentOfLog(log: AdvertLog): string[] {
  return log.entriesAfter(undefined, 1_000_000).map(describeEntry)
}

/** Resolves when `reader` knows all that `publisher` has said. */
export async function caughtUp(reader: Advertiser, publisher: Advertiser): Promise<void> {
  await eventually(() => {
    const known = reader.index.position(publisher.host.peerId)
    const { epoch, sequence } = publisher.adverts.position()
    return known?.epoch === epoch && known.sequence === sequence
  }, 'the news of a peer')
}

export interface Partition extends AsyncDisposable {
  /** Stops forwarding without closing anything, as dropped packets do. */
  cut(): void
  heal(): void
}

/**
 * Forwards to an address of 127.0.0.1.
 * @returns what to announce instead of the address, and the means to cut it.
 */
export async function startProxy(t: ExecutionContext): Promise<{
  announced(address: string): string
  partition: Partition
}> {
  const pairs = new Set<[Socket, Socket]>()
  let target = 0
  let isCut = false
  const server = net.createServer((incoming) => {
    const outgoing = net.connect(target, '127.0.0.1')
    const pair: [Socket, Socket] = [incoming, outgoing]
    pairs.add(pair)
    for (const [from, to] of [pair, [outgoing, incoming] as const]) {
      from.on('data', (bytes) => {
        if (!isCut) to.write(bytes)
      })
      from.on('error', () => to.destroy())
      from.on('close', () => {
        pairs.delete(pair)
        if (!isCut) to.destroy()
      })
    }
  })
  server.listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as AddressInfo
  const close = async () => {
    for (const pair of pairs) for (const socket of pair) socket.destroy()
    await new Promise((resolve) => server.close(resolve))
  }
  t.teardown(close)
  return {
    announced(address) {
      target = Number(address.split('/').at(-1))
      return `/ip4/127.0.0.1/tcp/${port}`
    },
    partition: {
      cut() {
        isCut = true
      },
      heal() {
        isCut = false
        // What was cut has lost bytes: such a connection never works again.
        for (const pair of pairs) for (const socket of pair) socket.destroy()
      },
      [Symbol.asyncDispose]: close,
    },
  }
}
