/** Connections whose hello is done, newest last for each peer. */
import type { Connection, Stream } from '@libp2p/interface'
import type { Logger } from '../../core/log.ts'
import type { PeerEvent } from './index.ts'

export interface Connections {
  newest(peerId: string): Connection | undefined
  peers(): string[]
  add(connection: Connection): void
  remove(connection: Connection): void
  /**
   * Both sides may have dialled at once. One of the two, the lower peer id, must decide which connection stays,
   * or each closes what the other keeps; and what still has streams is not closed under them.
   */
  closeSuperseded(): void
  /** Those that are no neighbours and have had no stream that is needed between two calls of this. */
  closeIdle(): void
  /** Says again of everybody whether it is a neighbour, where that has changed. */
  reconsider(): void
  onPeer(listener: (event: PeerEvent) => void): Disposable
  emit(event: PeerEvent): void
}

export function createConnections(options: {
  ownPeerId: string
  isNeighbour: (peerId: string) => boolean
  isForNeighbours: (protocol: string) => boolean
  log: Logger
}): Connections {
  const byPeer = new Map<string, Connection[]>()
  /** As it was said last. */
  const neighbours = new Set<string>()
  let idle = new Set<Connection>()
  const listeners = new Set<(event: PeerEvent) => void>()

  const newest = (peerId: string) => byPeer.get(peerId)?.at(-1)
  const emit = (event: PeerEvent) => {
    for (const listener of listeners) listener(event)
  }

  /** What a peer that takes us for a neighbour has opened is not. */
  function isNeeded({ direction, protocol }: Stream): boolean {
    return direction === 'outbound' || !options.isForNeighbours(protocol)
  }

  function emitConnected(peerId: string): void {
    const isNeighbour = options.isNeighbour(peerId)
    if (isNeighbour) neighbours.add(peerId)
    else neighbours.delete(peerId)
    emit({ type: 'connected', peerId, isNeighbour })
  }

  return {
    newest,
    emit,
    peers: () => [...byPeer.keys()],
    add(connection) {
      const peerId = connection.remotePeer.toString()
      const known = byPeer.get(peerId) ?? []
      if (known.includes(connection)) return
      byPeer.set(peerId, [...known, connection])
      emitConnected(peerId)
    },
    closeSuperseded() {
      for (const [peerId, known] of byPeer) {
        if (options.ownPeerId > peerId) continue
        for (const older of known.slice(0, -1)) {
          if (older.streams.length === 0) older.abort(new Error('there is a newer connection'))
        }
      }
    },
    closeIdle() {
      const before = idle
      idle = new Set()
      for (const [peerId, [connection, ...others]] of byPeer) {
        if (connection === undefined || others.length > 0 || neighbours.has(peerId)) continue
        if (connection.streams.some(isNeeded)) continue
        if (before.has(connection)) connection.abort(new Error('it is not needed any more'))
        else idle.add(connection)
      }
    },
    reconsider() {
      for (const peerId of [...byPeer.keys()]) {
        if (options.isNeighbour(peerId) !== neighbours.has(peerId)) emitConnected(peerId)
      }
    },
    remove(connection) {
      const peerId = connection.remotePeer.toString()
      const known = byPeer.get(peerId)
      if (known?.includes(connection) !== true) return
      const wasNewest = known.at(-1) === connection
      const left = known.filter((other) => other !== connection)
      if (left.length > 0) {
        byPeer.set(peerId, left)
        if (wasNewest) emitConnected(peerId)
        return
      }
      byPeer.delete(peerId)
      neighbours.delete(peerId)
      options.log.info({ peer: peerId }, 'a peer is no longer connected')
      emit({ type: 'disconnected', peerId })
    },
    onPeer(listener) {
      listeners.add(listener)
      for (const peerId of byPeer.keys()) {
        listener({ type: 'connected', peerId, isNeighbour: neighbours.has(peerId) })
      }
      return { [Symbol.dispose]: () => void listeners.delete(listener) }
    },
  }
}
