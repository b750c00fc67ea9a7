/** Several snapshots of one mount as one content: a pure function. */
import type { Pack, SnapshotDocument } from './document.ts'
import { type DeadEntry, isSame, type PackedEntry, parentOf } from './entries.ts'

export interface HeadContent {
  readonly document: SnapshotDocument
  readonly entries: readonly PackedEntry[]
  readonly dead: readonly DeadEntry[]
}

export interface MountContent {
  /** Unpacked in this order, without what is dead in each, they give exactly the entries. */
  readonly packs: readonly Pack[]
  readonly entries: readonly PackedEntry[]
  readonly dead: readonly DeadEntry[]
}

/**
 * Of one path that several have, the last head's entry counts. Where that would not do (a folder here and a file
 * there, one of several names of a file), there is no union.
 * @param heads in an order that all nodes agree on, the newest last.
 * @returns undefined when they cannot be merged.
 */
export function unite(heads: readonly HeadContent[]): MountContent | undefined {
  const packs = new Map<string, { pack: Pack; index: number }>()
  const place = (pack: Pack, head: number): number => {
    // A folder's pack says which times folders have: each head's own, one after the other.
    const key = pack.holds === 'folders' ? `${head} ${pack.digest}` : pack.digest
    const known = packs.get(key)
    if (known !== undefined) return known.index
    packs.set(key, { pack, index: packs.size })
    return packs.size - 1
  }
  // All files before all folders: a folder's time is set when nothing is put into it any more.
  const numbered = heads.map(
    ({ document }) => new Map<number, number>(document.packs.map((_, index) => [index, -1])),
  )
  for (const holds of ['files', 'folders'] as const) {
    for (const [head, { document }] of heads.entries()) {
      for (const [index, pack] of document.packs.entries()) {
        if (pack.holds === holds) numbered[head]?.set(index, place(pack, head))
      }
    }
  }
  const entries = new Map<string, PackedEntry>()
  const dead = new Map<string, DeadEntry>()
  const bury = (path: string, pack: number): void =>
    void dead.set(`${pack} ${path}`, { path, pack })
  for (const [head, { entries: own, dead: buried }] of heads.entries()) {
    const at = (pack: number): number => numbered[head]?.get(pack) ?? -1
    for (const { path, pack } of buried) bury(path, at(pack))
    for (const entry of own) {
      const moved = { ...entry, pack: at(entry.pack) }
      const known = entries.get(entry.path)
      if (known !== undefined && known.pack !== moved.pack) {
        if ((known.type === 'folder') !== (entry.type === 'folder')) return undefined
        const isShared = known.names > 1 || entry.names > 1
        if (isShared && !isSame(known, entry)) return undefined
        if (known.type !== 'folder') bury(known.path, known.pack)
      }
      entries.set(entry.path, moved)
    }
  }
  // What is dead in one head may live in another by the same pack.
  for (const { path, pack } of entries.values()) dead.delete(`${pack} ${path}`)
  const all = [...entries.values()].sort((a, b) => (a.path < b.path ? -1 : 1))
  if (all.some(({ path }) => path !== '' && entries.get(parentOf(path))?.type !== 'folder'))
    return undefined
  return {
    packs: [...packs.values()].sort((a, b) => a.index - b.index).map(({ pack }) => pack),
    entries: all,
    dead: [...dead.values()],
  }
}
