/** How fast bytes come to a node, learned from what nodes report of their transfers. */

export interface Rates {
  /** @param source a node's id, or the name of an object store. */
  note(transfer: { source: string; nodeId: string; bytes: number; durationMs: number }): void
  /** Of a blob that comes from peers, or from the object store; per millisecond. */
  bytesPerMs(from: 'peers' | 'object store', nodeId: string): number
}

/** Before anything was measured: two machines of one network, and an object store of the same region. */
const usualBytesPerMs = { peers: 100_000, 'object store': 50_000 }

/** Smaller transfers measure how long the first byte takes. */
const tellingBytes = 1_000_000

/** So much of the newest transfer enters the average: the network of today counts, not that of last week. */
const newestShare = 0.3

/** @param options.isNode tells peers from object stores. */
export function createRates(options: { isNode: (source: string) => boolean }): Rates {
  const measured = new Map<string, number>()

  function learn(key: string, bytesPerMs: number): void {
    const before = measured.get(key) ?? bytesPerMs
    measured.set(key, before + (bytesPerMs - before) * newestShare)
  }

  return {
    note({ source, nodeId, bytes, durationMs }) {
      if (bytes < tellingBytes) return
      const kind = options.isNode(source) ? 'peers' : 'object store'
      const bytesPerMs = bytes / Math.max(1, durationMs)
      learn(`${kind} ${nodeId}`, bytesPerMs)
      learn(kind, bytesPerMs)
    },
    bytesPerMs: (kind, nodeId) =>
      measured.get(`${kind} ${nodeId}`) ?? measured.get(kind) ?? usualBytesPerMs[kind],
  }
}
