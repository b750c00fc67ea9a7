/**
 * Who is there: whoever is connected to this peer, and whoever a hub says to be connected to one. The index leaves
 * out what the others hold.
 */
import type { DigestIndex } from '../digest-index/index.ts'
import type { MeshHost } from '../host/index.ts'
import { presenceGraceMs } from '../limits.ts'

export interface Presence extends Disposable {
  isConnected(peerId: string): boolean
  isPresent(peerId: string): boolean
  present(): Iterable<string>
  /** What a hub says, from its first word on. */
  hear(hub: string): HubWitness
  /** Called with a peer that is present or connected in another way than before. */
  onChange(listener: (peerId: string) => void): Disposable
}

export interface HubWitness extends Disposable {
  /** @throws RangeError when it names more than a mesh has. */
  note(peers: { came: readonly string[]; gone: readonly string[] }): void
  /** It has named everybody: what it said in an earlier life counts no more. */
  complete(): void
}

export function createPresence(
  deps: { host: MeshHost; index: DigestIndex },
  options: { graceMs?: number; peersMax?: number } = {},
): Presence {
  const { host, index } = deps
  const peersMax = options.peersMax ?? 20_000
  const connected = new Set<string>()
  /** By witness: its peers. Those of a lost hub count for a while, until the next has told of them. */
  const witnesses = new Map<object, Set<string>>()
  const known = new Set<string>()
  const listeners = new Set<(peerId: string) => void>()
  const timers = new Set<NodeJS.Timeout>()

  const isPresent = (peerId: string): boolean =>
    connected.has(peerId) || [...witnesses.values()].some((peers) => peers.has(peerId))

  function look(peerId: string): void {
    const isThere = isPresent(peerId)
    if (isThere !== known.has(peerId)) {
      if (isThere) {
        known.add(peerId)
        index.markAlive(peerId)
      } else {
        known.delete(peerId)
        index.markDead(peerId)
      }
    }
    for (const listener of listeners) listener(peerId)
  }

  const listening = host.onPeer(({ type, peerId }) => {
    if (type === 'expelled') for (const peers of witnesses.values()) peers.delete(peerId)
    if (type === 'connected') connected.add(peerId)
    else connected.delete(peerId)
    look(peerId)
  })

  function forget(witness: object): void {
    const peers = witnesses.get(witness) ?? []
    witnesses.delete(witness)
    for (const peerId of peers) look(peerId)
  }

  return {
    isConnected: (peerId) => connected.has(peerId),
    isPresent,
    present: () => known,
    hear(hub) {
      const peers = new Set<string>()
      const witness = { hub }
      const before = [...witnesses.keys()]
      witnesses.set(witness, peers)
      return {
        note({ came, gone }) {
          for (const peerId of came) if (peerId !== host.peerId) peers.add(peerId)
          for (const peerId of gone) peers.delete(peerId)
          if (peers.size > peersMax) throw new RangeError(`a hub names ${peers.size} peers`)
          for (const peerId of [...came, ...gone]) look(peerId)
        },
        complete() {
          for (const older of before) {
            if ('hub' in older && older.hub === hub) forget(older)
          }
        },
        [Symbol.dispose]() {
          const timer = setTimeout(() => {
            timers.delete(timer)
            forget(witness)
          }, options.graceMs ?? presenceGraceMs).unref()
          timers.add(timer)
        },
      }
    },
    onChange(listener) {
      listeners.add(listener)
      return { [Symbol.dispose]: () => void listeners.delete(listener) }
    },
    [Symbol.dispose]() {
      listening[Symbol.dispose]()
      for (const timer of timers) clearTimeout(timer)
    },
  }
}
