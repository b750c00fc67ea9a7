/**
 * By which road a node is asked: the direct one, unless it has turned out to be closed a while ago. Streams of the
 * mesh are open to whoever is a member, so a port that a firewall blocks costs speed, not blobs.
 */
import { SourceFailure, toSourceFailure } from './source-connection.ts'

export interface Roads<Peer, Connection> {
  /** @throws SourceFailure `unreachable` when neither road leads there; it tells of the direct one. */
  connect(peer: Peer, options: { signal: AbortSignal }): Promise<Connection>
}

type Connect<Peer, Connection> = (
  peer: Peer,
  options: { signal: AbortSignal },
) => Promise<Connection>

const closedMs = 30_000
const closedMsMax = 10 * 60_000

/** @param deps.byStream undefined when there is no mesh to have streams of. */
export function createRoads<Peer extends { nodeId: string; peerId?: string }, Connection>(
  deps: {
    direct: Connect<Peer, Connection>
    byStream: Connect<Peer & { peerId: string }, Connection> | undefined
  },
  options: { clock: () => number },
): Roads<Peer, Connection> {
  const { direct, byStream } = deps
  /** Nodes whose direct road was closed, and until when nobody tries it. */
  const closed = new Map<string, { forMs: number; untilMs: number }>()

  function noteClosed(nodeId: string): void {
    const forMs = Math.min((closed.get(nodeId)?.forMs ?? closedMs / 2) * 2, closedMsMax)
    closed.set(nodeId, { forMs, untilMs: options.clock() + forMs })
  }

  return {
    async connect(peer, { signal }) {
      const { nodeId, peerId } = peer
      if (byStream === undefined || peerId === undefined) return await direct(peer, { signal })
      const stream = () => byStream({ ...peer, peerId }, { signal })
      const isClosed = (closed.get(nodeId)?.untilMs ?? 0) > options.clock()
      if (isClosed) {
        // When it has no stream either, its address may be another by now.
        const connection = await stream().catch(() => undefined)
        if (connection !== undefined) return connection
      }
      try {
        const connection = await direct(peer, { signal })
        closed.delete(nodeId)
        return connection
      } catch (error) {
        const failure = toSourceFailure(error, 'unreachable')
        if (failure.reason !== 'unreachable' || isClosed || signal.aborted) throw failure
        const connection = await stream().catch((alsoFailed: unknown) => {
          throw new SourceFailure(
            'unreachable',
            `${failure.message}; by stream: ${toSourceFailure(alsoFailed, 'unreachable').message}`,
          )
        })
        noteClosed(nodeId)
        return connection
      }
    },
  }
}
