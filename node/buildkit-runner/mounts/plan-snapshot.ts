/** What a new snapshot of a mount adds to the one before, and which packs it goes on with: a pure function. */
import type { Pack } from './document.ts'
import { type DeadEntry, isSame, type MountEntry } from './entries.ts'
import type { MountKind } from './index.ts'
import type { WalkedEntry } from './walk.ts'

/** A mount on this node as it was when it was last known to be the same as a snapshot. */
export interface MountBase {
  readonly packs: readonly Pack[]
  readonly entries: readonly BaseEntry[]
  readonly dead: readonly DeadEntry[]
}

export interface BaseEntry extends WalkedEntry {
  readonly pack: number
}

export interface SnapshotPlan {
  /** Packs of files that stay, by their index in the base. */
  readonly kept: readonly number[]
  /** Files and links for a new pack; empty: none is needed. */
  readonly added: readonly WalkedEntry[]
  readonly folders: readonly WalkedEntry[]
  /** Entries that stay in a pack, by its index in the base. */
  readonly stays: ReadonlyMap<WalkedEntry, number>
  /** What the kept packs hold in vain, by the same index. */
  readonly dead: readonly DeadEntry[]
  /** Of all files, unpacked. */
  readonly bytes: number
}

export type SnapshotDecision =
  | { readonly type: 'take'; readonly plan: SnapshotPlan }
  | { readonly type: 'none'; readonly reason: 'unchanged' | 'empty' | 'too large' }

/** Packs that a snapshot may go on with; beyond, the smallest ones are written together. */
const keptMax = 16
/** A pack of which less than this part is still of use is rewritten. */
const livePart = 1 / 2

/**
 * @param walked without what must not be in a snapshot.
 * @param base undefined: everything is new.
 * @param options.isThere whether a pack of the base can still be had.
 */
export function planSnapshot(
  walked: readonly WalkedEntry[],
  base: MountBase | undefined,
  options: { kind: MountKind; bytesMax: number; isThere: (pack: Pack) => boolean },
): SnapshotDecision {
  const folders = walked.filter(({ type }) => type === 'folder')
  const content = walked.filter(({ type }) => type !== 'folder')
  if (content.length === 0) return { type: 'none', reason: 'empty' }
  const before = new Map(base?.entries.map((entry) => [entry.path, entry]))
  if (base !== undefined && isAllSame(walked, before)) return { type: 'none', reason: 'unchanged' }

  let stays = untouched(content, before)
  const packs = base?.packs ?? []
  const dropped = new Set<number>()
  for (const [index, pack] of packs.entries()) {
    if (pack.holds === 'folders' || !options.isThere(pack)) dropped.add(index)
  }
  for (const { index } of mostlyDead(packs, stays, dropped)) dropped.add(index)
  stays = without(stays, dropped)
  let left: readonly WalkedEntry[] = content
  if (bytesOf(left) > options.bytesMax) {
    if (options.kind !== 'union') return { type: 'none', reason: 'too large' }
    // What only grows loses what was added first: the oldest packs.
    for (const index of packs.keys()) {
      if (bytesOf(left) <= options.bytesMax) break
      if (dropped.has(index)) continue
      dropped.add(index)
      left = left.filter((entry) => stays.get(entry) !== index)
    }
    if (bytesOf(left) > options.bytesMax) return { type: 'none', reason: 'too large' }
    stays = without(stays, dropped)
  }
  const kept = [...packs.keys()].filter((index) => !dropped.has(index))
  const dead = deadOf(base, stays, new Set(kept))
  const added = left.filter((entry) => !stays.has(entry))
  return { type: 'take', plan: { kept, added, folders, stays, dead, bytes: bytesOf(left) } }
}

function bytesOf(entries: readonly MountEntry[]): number {
  return entries.reduce((sum, { size }) => sum + size, 0)
}

/** Folders' times are no news by themselves: tools touch a folder that they only look into. */
function isAllSame(
  walked: readonly WalkedEntry[],
  before: ReadonlyMap<string, BaseEntry>,
): boolean {
  if (walked.length !== before.size) return false
  return walked.every((entry) => {
    const known = before.get(entry.path)
    if (known === undefined) return false
    if (entry.type !== 'folder') return isUntouched(entry, known)
    return isSame({ ...entry, modified: '' }, { ...known, modified: '' })
  })
}

function isUntouched(entry: WalkedEntry, known: BaseEntry): boolean {
  return entry.inode === known.inode && entry.changed === known.changed && isSame(entry, known)
}

/** A change of any of a file's names, or their number, changes its inode's time: its names stay together or none does. */
function untouched(
  content: readonly WalkedEntry[],
  before: ReadonlyMap<string, BaseEntry>,
): Map<WalkedEntry, number> {
  const stays = new Map<WalkedEntry, number>()
  const broken = new Set<string>()
  for (const entry of content) {
    const known = before.get(entry.path)
    if (known !== undefined && isUntouched(entry, known)) stays.set(entry, known.pack)
    else if (entry.names > 1) broken.add(entry.inode)
  }
  for (const entry of stays.keys()) if (broken.has(entry.inode)) stays.delete(entry)
  return stays
}

function without(stays: Map<WalkedEntry, number>, dropped: ReadonlySet<number>) {
  return new Map([...stays].filter(([, pack]) => !dropped.has(pack)))
}

/** In an archive every file takes some hundred bytes more. */
const headBytes = 1024

function mostlyDead(
  packs: readonly Pack[],
  stays: ReadonlyMap<WalkedEntry, number>,
  dropped: ReadonlySet<number>,
): { index: number; live: number }[] {
  const live = new Map<number, number>()
  for (const [{ size }, pack] of stays) live.set(pack, (live.get(pack) ?? 0) + size + headBytes)
  const all = packs
    .map((pack, index) => ({ index, live: live.get(index) ?? 0, unpacked: pack.unpacked }))
    .filter(({ index }) => !dropped.has(index))
  const dying = all.filter((each) => each.live < each.unpacked * livePart)
  const sound = all.filter((each) => !dying.includes(each)).sort((a, b) => a.live - b.live)
  return [...dying, ...sound.slice(0, sound.length > keptMax ? sound.length - keptMax / 2 : 0)]
}

function deadOf(
  base: MountBase | undefined,
  stays: ReadonlyMap<WalkedEntry, number>,
  kept: ReadonlySet<number>,
): DeadEntry[] {
  if (base === undefined) return []
  const living = new Set(Array.from(stays, ([{ path }, pack]) => `${pack} ${path}`))
  const gone = base.entries.filter(
    ({ type, path, pack }) => type !== 'folder' && !living.has(`${pack} ${path}`),
  )
  return [...base.dead, ...gone]
    .filter(({ pack }) => kept.has(pack))
    .map(({ path, pack }) => ({ path, pack }))
}
