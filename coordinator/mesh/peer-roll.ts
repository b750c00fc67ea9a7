/** Which peer is which node's, and who was taken back: in the coordinator's state, so that a restart forgets nothing. */
import { HearthError } from '../../core/errors.ts'
import { clockSkewMs, nodeCertificateMs } from '../limits.ts'
import type { ExpelledRecord, NodeRecord, State } from '../state/index.ts'

export interface PeerRoll {
  /**
   * From now on the peer is this node's; one that it had before is taken back.
   * @throws HearthError `forbidden` when the peer is another node's, or this node was removed, unless a token lets it in.
   */
  assign(peer: { nodeId: string; peerId: string; withToken: boolean }): void
  /** @throws HearthError `forbidden` when the node was removed. */
  requireNotRemoved(nodeId: string): void
  /** Takes a node out, with its peer. @throws HearthError `not-found` */
  remove(nodeId: string): NodeRecord
  /** Peers that were taken back no longer ago than this. */
  expelledSince(ms: number): string[]
}

/** By then whatever a node had to show has expired. */
const rememberedMs = nodeCertificateMs + clockSkewMs

export function createPeerRoll(
  deps: { state: Pick<State, 'nodes' | 'expelled' | 'write'> },
  options: { now: () => number },
): PeerRoll {
  const { state } = deps
  const { now } = options

  const put = (record: Omit<ExpelledRecord, 'expelledAtMs'>): void => {
    const id = record.peerId === '' ? `node ${record.nodeId}` : record.peerId
    state.expelled.put(id, { ...record, expelledAtMs: now() })
  }

  function prune(): void {
    for (const { peerId, nodeId, expelledAtMs } of state.expelled.list()) {
      if (expelledAtMs + rememberedMs > now()) continue
      state.expelled.remove(peerId === '' ? `node ${nodeId}` : peerId)
    }
  }

  function requireNotRemoved(nodeId: string): void {
    const isRemoved = state.expelled
      .list()
      .some((record) => record.isNodeRemoved && record.nodeId === nodeId)
    if (!isRemoved) return
    throw new HearthError('forbidden', `the node ${nodeId} was removed by an operator`, {
      hint: 'to let it in again, delete "identity" in its data folder and give it a new join token',
    })
  }

  return {
    requireNotRemoved,
    assign({ nodeId, peerId, withToken }) {
      state.write(() => {
        prune()
        const holder = state.nodes
          .list()
          .find((node) => node.peerId === peerId && node.id !== nodeId)
        const expelled = state.expelled.get(peerId)
        if (!withToken && (holder !== undefined || (expelled ?? { nodeId }).nodeId !== nodeId)) {
          throw new HearthError('forbidden', `the peer ${peerId} is another node's`, {
            hint: 'stop the node, delete mesh/peer.pem in its data folder, and start it again',
          })
        }
        if (holder !== undefined) {
          const { peerId: _, membership: __, ...without } = holder
          state.nodes.put(holder.id, without)
        }
        if (expelled !== undefined) state.expelled.remove(peerId)
        // The peer is in again, with another node; the one that was removed is not.
        if (expelled?.isNodeRemoved === true && expelled.nodeId !== nodeId) {
          put({ peerId: '', nodeId: expelled.nodeId, isNodeRemoved: true })
        }
        const before = state.nodes.get(nodeId)?.peerId
        if (before === undefined || before === peerId) return
        put({ peerId: before, nodeId, isNodeRemoved: false })
      })
    },
    remove(nodeId) {
      return state.write(() => {
        prune()
        const node = state.nodes.get(nodeId)
        if (node === undefined) throw new HearthError('not-found', `there is no node ${nodeId}`)
        put({ peerId: node.peerId ?? '', nodeId, isNodeRemoved: true })
        state.nodes.remove(nodeId)
        return node
      })
    },
    expelledSince: (ms) =>
      state.expelled
        .list()
        .filter(({ peerId, expelledAtMs }) => peerId !== '' && expelledAtMs > now() - ms)
        .map(({ peerId }) => peerId),
  }
}
