/** Connections whose hello is done, newest last for each peer. */
import type { Connection } from '@libp2p/interface'
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
  onPeer(listener: (event: PeerEvent) => void): Disposable
  emit(event: PeerEvent): void
}

export function createConnections(options: { ownPeerId: string; log: Logger }): Connections {
  const byPeer = new Map<string, Connection[]>()
  const listeners = new Set<(event: PeerEvent) => void>()

  const newest = (peerId: string) => byPeer.get(peerId)?.at(-1)
  const emit = (event: PeerEvent) => {
    for (const listener of listeners) listener(event)
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
      emit({ type: 'connected', peerId })
    },
    closeSuperseded() {
      for (const [peerId, known] of byPeer) {
        if (options.ownPeerId > peerId) continue
        for (const older of known.slice(0, -1)) {
          if (older.streams.length === 0) older.abort(new Error('there is a newer connection'))
        }
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
        if (wasNewest) emit({ type: 'connected', peerId })
        return
      }
      byPeer.delete(peerId)
      options.log.info({ peer: peerId }, 'a peer is no longer connected')
      emit({ type: 'disconnected', peerId })
    },
    onPeer(listener) {
      listeners.add(listener)
      for (const peerId of byPeer.keys()) listener({ type: 'connected', peerId })
      return { [Symbol.dispose]: () => void listeners.delete(listener) }
    },
  }
}
