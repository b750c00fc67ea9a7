/**
 * Connections to nodes that are used again: a build asks for hundreds of small blobs, and a TLS handshake costs
 * more than most of them.
 */
import type { BulkConnection, BulkPeer } from './bulk-connection.ts'
import type { WantedBlob } from './bulk-paths.ts'
import { type SourceConnection, SourceFailure } from './source-connection.ts'

export interface BulkConnections extends Disposable {
  /** @throws SourceFailure `unreachable` */
  open(
    peer: BulkPeer,
    blob: WantedBlob,
    options: { signal: AbortSignal },
  ): Promise<SourceConnection>
  /** Closes idle ones, except to these nodes; all when undefined. */
  closeIdle(except?: ReadonlySet<string>): void
}

/**
 * Idle connections kept for each node, as many as there are fetches at once, and for how long: less than the other
 * side keeps them.
 */
const idlePerNodeMax = 16
const idleMs = 15_000

interface Idle {
  connection: BulkConnection
  expiry: NodeJS.Timeout
}

export function createBulkConnections(
  connect: (peer: BulkPeer, options: { signal: AbortSignal }) => Promise<BulkConnection>,
): BulkConnections {
  const idle = new Map<string, Idle[]>()

  function takeIdle(peer: BulkPeer): BulkConnection | undefined {
    const waiting = idle.get(placeOf(peer)) ?? []
    for (let last = waiting.pop(); last !== undefined; last = waiting.pop()) {
      clearTimeout(last.expiry)
      if (last.connection.isOpen) return last.connection
    }
    idle.delete(placeOf(peer))
    return undefined
  }

  function giveBack(peer: BulkPeer, connection: BulkConnection): void {
    const waiting = idle.get(placeOf(peer)) ?? []
    if (!connection.isOpen || waiting.length >= idlePerNodeMax) {
      connection[Symbol.dispose]()
      return
    }
    const entry: Idle = {
      connection,
      expiry: setTimeout(() => {
        waiting.splice(waiting.indexOf(entry), 1)
        connection[Symbol.dispose]()
      }, idleMs).unref(),
    }
    waiting.push(entry)
    idle.set(placeOf(peer), waiting)
  }

  function closeIdle(except: ReadonlySet<string> = new Set()): void {
    for (const waiting of idle.values()) {
      for (const { connection, expiry } of [...waiting]) {
        if (except.has(connection.nodeId)) continue
        clearTimeout(expiry)
        connection[Symbol.dispose]()
      }
    }
  }

  return {
    async open(peer, blob, { signal }) {
      const known = takeIdle(peer)
      let isReused = known !== undefined
      let connection = known ?? (await connect(peer, { signal }))
      let before = connection.bytesReceived
      let isReading = false
      let isOver = false
      return {
        get road() {
          return connection.road
        },
        get bytesReceived() {
          return connection.bytesReceived - before
        },
        async read(range, onBlock) {
          isReading = true
          try {
            await connection.read(blob, range, onBlock)
          } catch (error) {
            // The other side may have closed it in the moment in which it was taken up again.
            const isStale = isReused && connection.bytesReceived === before && !isOver
            if (!isStale || !(error instanceof SourceFailure)) throw error
            connection = await connect(peer, { signal })
            before = connection.bytesReceived
            await connection.read(blob, range, onBlock)
          } finally {
            isReused = false
            isReading = false
          }
        },
        [Symbol.dispose]() {
          if (isOver) return
          isOver = true
          // In the middle of an answer it is of no use to anybody else.
          if (isReading) connection[Symbol.dispose]()
          else giveBack(peer, connection)
        },
      }
    },
    closeIdle,
    [Symbol.dispose]: () => closeIdle(),
  }
}

function placeOf({ nodeId, host, port }: BulkPeer): string {
  return `${nodeId} ${host} ${port}`
}
