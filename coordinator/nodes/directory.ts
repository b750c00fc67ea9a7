import { setTimeout as delay } from 'node:timers/promises'
import { HearthError } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import { NodeLoad } from '../../proto/generated/hearth/v1/node.ts'
import { heartbeatsMissedMax, nodeForgottenMs } from '../limits.ts'
import type { NodeRecord, State } from '../state/index.ts'
import type { KnownNode, NodeDirectory, SeenCandidate } from './index.ts'

/** What a node has told since the coordinator started. */
interface Presence {
  seenAtMs: number
  load: NodeLoad
  /** Slots granted since that load was told. */
  leasesSince: number
  /** As it was made last, and from which record. */
  candidate?: { readonly node: NodeRecord; readonly seen: SeenCandidate } | undefined
}

export interface NodeDirectoryOptions {
  heartbeatMs: number
  /** Default: the clock. */
  now?: () => number
}

const unknownLoad = NodeLoad.create()

export function createNodeDirectory(
  deps: { state: State; log: Logger },
  options: NodeDirectoryOptions,
): NodeDirectory {
  const { state, log } = deps
  const now = options.now ?? Date.now
  // Half an interval more, because a call that is a moment late has not been missed.
  const silenceMs = options.heartbeatMs * (heartbeatsMissedMax + 0.5)
  const startedAtMs = now()
  const present = new Map<string, Presence>()
  const waiting = new Set<() => void>()

  function see(nodeId: string, load: NodeLoad): void {
    if (!isOnline(nodeId)) log.info({ node: nodeId }, 'a node is online')
    present.set(nodeId, { seenAtMs: now(), load, leasesSince: 0 })
    for (const wake of waiting) wake()
  }

  function isOnline(nodeId: string): boolean {
    const presence = present.get(nodeId)
    return presence !== undefined && now() - presence.seenAtMs <= silenceMs
  }

  function describe(node: NodeRecord): KnownNode {
    const presence = present.get(node.id)
    return {
      node,
      online: isOnline(node.id),
      lastSeenAtMs: presence?.seenAtMs ?? node.lastSeenAtMs,
      load: presence?.load ?? NodeLoad.create(),
    }
  }

  /** The same object until something of it changes: every route looks at all of them, which may be a thousand. */
  function candidateOf(node: NodeRecord, atMs: number): SeenCandidate {
    const presence = present.get(node.id)
    const online = presence !== undefined && atMs - presence.seenAtMs <= silenceMs
    const known = presence?.candidate
    if (known?.node === node && known.seen.online === online) return known.seen
    const { id, name, platform, lastSeenAtMs } = node
    const { slots, slotsUsed, queued, draining, diskLow } = presence?.load ?? unknownLoad
    const load = {
      ...{ slots, queued, draining, diskLow },
      slotsUsed: slotsUsed + (presence?.leasesSince ?? 0),
    }
    const seenAtMs = presence?.seenAtMs ?? lastSeenAtMs
    const seen = { id, name, platform, online, lastSeenAtMs: seenAtMs, load }
    if (presence !== undefined) presence.candidate = { node, seen }
    return seen
  }

  return {
    join(node) {
      const known = state.nodes.get(node.id)
      const record = {
        ...known,
        ...node,
        joinedAtMs: known?.joinedAtMs ?? now(),
        lastSeenAtMs: now(),
      }
      state.nodes.put(node.id, record)
      // Its load comes with the first heartbeat; nothing is sent there before.
      if (known === undefined) log.info({ node: node.id, name: node.name }, 'a node has joined')
      return record
    },
    heartbeat(nodeId, load) {
      if (state.nodes.get(nodeId) === undefined) {
        throw new HearthError('not-found', `the node ${nodeId} is not known here`, {
          hint: 'it joins again by itself',
        })
      }
      see(nodeId, load)
    },
    noteLease(nodeId) {
      const presence = present.get(nodeId)
      if (presence === undefined) return
      presence.leasesSince += 1
      presence.candidate = undefined
    },
    get: (nodeId) => state.nodes.get(nodeId),
    requireOnline(nodeId) {
      const node = state.nodes.get(nodeId)
      if (node === undefined) throw new HearthError('not-found', `there is no node ${nodeId}`)
      if (isOnline(nodeId)) return node
      throw new HearthError('unavailable', `the node ${node.name} is offline`)
    },
    list: () => state.nodes.list().map(describe),
    candidates() {
      const atMs = now()
      return state.nodes.list().map((node) => candidateOf(node, atMs))
    },
    async whenBack(check, { timeoutMs, signal }) {
      const endsAtMs = Math.min(startedAtMs + silenceMs, now() + timeoutMs)
      while (
        !check() &&
        now() < endsAtMs &&
        state.nodes.list().some(({ id }) => !present.has(id))
      ) {
        await heartbeatOr(endsAtMs - now(), signal)
      }
    },
    keep() {
      const seen = state.nodes.list().map(describe)
      state.write(() => {
        for (const { node, lastSeenAtMs } of seen) {
          if (lastSeenAtMs >= now() - nodeForgottenMs) {
            if (lastSeenAtMs !== node.lastSeenAtMs) {
              state.nodes.put(node.id, { ...node, lastSeenAtMs })
            }
            continue
          }
          log.info({ node: node.id, name: node.name }, 'a node has been away for long: forgotten')
          state.nodes.remove(node.id)
          present.delete(node.id)
        }
      })
    },
  }

  /** Resolves at the next call of any node, or after the time. */
  async function heartbeatOr(timeMs: number, signal: AbortSignal): Promise<void> {
    const called = Promise.withResolvers<void>()
    const over = new AbortController()
    waiting.add(called.resolve)
    try {
      const ended = AbortSignal.any([signal, over.signal])
      const late = delay(timeMs, undefined, { signal: ended }).catch(() => signal.throwIfAborted())
      await Promise.race([called.promise, late])
    } finally {
      waiting.delete(called.resolve)
      over.abort()
    }
  }
}
