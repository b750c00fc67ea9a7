/**
 * The few seconds of a connection before its hello. libp2p's gater sees a peer's identity first once it is
 * encrypted; the connection itself comes later or never, so a place taken there also runs out by itself.
 */
import type { Connection, ConnectionGater } from '@libp2p/interface'
import type { Logger } from '../../core/log.ts'
import type { Admission } from './admission.ts'

export interface Strangers {
  readonly gater: ConnectionGater
  opened(connection: Connection): void
  closed(connection: Connection): void
  /** Its hello was good. */
  admitted(connection: Connection): void
  stop(): void
}

export function createStrangers(
  { admission, log }: { admission: Admission; log: Logger },
  options: { helloMs: number; upgradeMs: number },
): Strangers {
  /** By peer id: what ends its stay. */
  const stays = new Map<string, Disposable>()

  function stay(peerId: string, forMs: number, end: () => void): boolean {
    const place = admission.letInStranger(peerId)
    if (place === undefined) return false
    const timer = setTimeout(() => {
      leave(peerId)
      end()
    }, forMs).unref()
    stays.set(peerId, {
      [Symbol.dispose]() {
        clearTimeout(timer)
        place[Symbol.dispose]()
      },
    })
    return true
  }

  function leave(peerId: string): void {
    stays.get(peerId)?.[Symbol.dispose]()
    stays.delete(peerId)
  }

  return {
    gater: {
      // Outside libp2p's limit for upgrades: it must answer at once.
      denyInboundEncryptedConnection(remote) {
        const peerId = remote.toString()
        if (admission.member(peerId) !== undefined) return false
        const isIn = stay(peerId, options.upgradeMs, () => {})
        if (!isIn) log.warn({ peer: peerId }, 'a stranger was turned away: there are too many')
        return !isIn
      },
    },
    opened(connection) {
      const peerId = connection.remotePeer.toString()
      if (connection.direction === 'outbound' || admission.member(peerId) !== undefined) return
      leave(peerId)
      const isIn = stay(peerId, options.helloMs, () => {
        if (admission.member(peerId) !== undefined) return
        log.warn({ peer: peerId }, 'a stranger was turned away: it showed no membership in time')
        connection.abort(new Error('no hello in time'))
      })
      if (!isIn) connection.abort(new Error('too many strangers'))
    },
    closed: (connection) => leave(connection.remotePeer.toString()),
    admitted: (connection) => leave(connection.remotePeer.toString()),
    stop() {
      for (const peerId of [...stays.keys()]) leave(peerId)
    },
  }
}
