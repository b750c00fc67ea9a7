/**
 * Takes a snapshot of a mount that no step has at present, and gives up when anything in it changed meanwhile.
 */
import { randomBytes } from 'node:crypto'
import { access, mkdir, rmdir } from 'node:fs/promises'
import path from 'node:path'
import { digestOf } from '../../../core/digest.ts'
import { HearthError } from '../../../core/errors.ts'
import type { CacheStore, Pin } from '../../cache-store/index.ts'
import type { Pack, SnapshotDocument } from './document.ts'
import { replacesMax } from './document.ts'
import { type PackedEntry, writeEntries } from './entries.ts'
import type { Blob } from './index.ts'
import { kindOf } from './kinds.ts'
import type { MountWithBase } from './local-mounts.ts'
import { writePack } from './packs.ts'
import { planSnapshot, type SnapshotPlan } from './plan-snapshot.ts'
import { smallBlobBytesMax, writeBlob } from './small-blobs.ts'
import { isUntouched, type WalkedEntry, walk } from './walk.ts'

export type SnapshotOutcome =
  | {
      readonly type: 'taken'
      readonly document: SnapshotDocument
      readonly mount: MountWithBase
      /** What it adds to the store. */
      readonly bytesAdded: number
    }
  | { readonly type: 'none'; readonly reason: 'unchanged' | 'empty' | 'too large' | 'in use' }

export interface SnapshotOptions {
  readonly bytesMax: number
  readonly isThere: (blob: Blob) => boolean
  /** Keeps the new blobs until they are told of. */
  readonly pin: Pin
  /** For the jail: a folder of the daemon's. */
  readonly temporary: string
  /** Aborted as soon as a step has the mount. */
  readonly signal: AbortSignal
}

/** @throws HearthError as packs do. */
export async function takeSnapshot(
  { store }: { store: CacheStore },
  mount: MountWithBase,
  options: SnapshotOptions,
): Promise<SnapshotOutcome> {
  const { signal, temporary } = options
  const { content, snapshot, scope, base } = mount
  // An overlay's folder is made with the first file in it.
  if (!(await exists(content)) && (await exists(snapshot))) return { type: 'none', reason: 'empty' }
  const before = await walk(content, { signal })
  const entries = sound(before.entries, mount)
  const kind = kindOf([mount.name.id, ...mount.targets], paths(entries))
  const decision = planSnapshot(entries, base, { ...options, kind })
  if (decision.type === 'none') return decision
  const { plan } = decision
  const jail = path.join(temporary, `hearth-${randomBytes(8).toString('hex')}-jail`)
  await mkdir(jail)
  let packs: Pack[]
  try {
    const place = { jail, content }
    const kept = plan.kept.flatMap((index) => base?.packs[index] ?? [])
    const more = { pin: options.pin, signal }
    const added =
      plan.added.length === 0
        ? []
        : [await writePack(store, scope, place, plan.added, { ...more, holds: 'files' })]
    const folders = await writePack(store, scope, place, plan.folders, {
      ...more,
      holds: 'folders',
    })
    packs = [...kept, ...added, folders]
  } finally {
    await rmdir(jail)
  }
  if (!isUntouched(before, await walk(content, { signal })))
    return { type: 'none', reason: 'in use' }

  const list = packed(plan)
  const bytes = await writeEntries(list)
  if (bytes.length > smallBlobBytesMax) return { type: 'none', reason: 'too large' }
  const blob = await writeBlob(store, scope, { digest: digestOf(bytes), bytes })
  options.pin.add([blob.digest])
  const fresh = packs.slice(plan.kept.length)
  const { coldMs, warmMs, name, parents } = mount
  const document: SnapshotDocument = {
    mount: name,
    kind,
    replaces: parents.slice(0, replacesMax),
    packs,
    list: { digest: blob.digest, size: blob.size },
    bytes: plan.bytes,
    files: list.entries.filter(({ type }) => type !== 'folder').length,
    coldMs,
    warmMs,
  }
  const walked = new Map(entries.map((entry) => [entry.path, entry]))
  const known = list.entries.flatMap((entry) => {
    const found = walked.get(entry.path)
    return found === undefined ? [] : [{ ...found, pack: entry.pack }]
  })
  return {
    type: 'taken',
    document,
    mount: { ...mount, kind, base: { packs, entries: known, dead: list.dead } },
    bytesAdded: [...fresh, blob].reduce((sum, { size }) => sum + size, 0),
  }
}

async function exists(folder: string): Promise<boolean> {
  return await access(folder).then(
    () => true,
    () => false,
  )
}

/** Without what a killed step may have left half-written. */
function sound(entries: readonly WalkedEntry[], { base, doubts }: MountWithBase): WalkedEntry[] {
  if (doubts.length === 0) return [...entries]
  const known = new Map(base?.entries.map((entry) => [entry.path, entry.changed]))
  return entries.filter(
    ({ path: name, type, changed }) =>
      type === 'folder' ||
      known.get(name) === changed ||
      !doubts.some(([from, to]) => isBetween(changed, from, to)),
  )
}

/** Seconds with ten decimals each: as long texts of equal length compare as numbers do. */
function isBetween(time: string, from: string, to: string): boolean {
  return time >= from && time <= to
}

function packed(plan: SnapshotPlan) {
  const placeOf = new Map(plan.kept.map((index, place) => [index, place]))
  const addedPlace = plan.kept.length
  const foldersPlace = addedPlace + (plan.added.length === 0 ? 0 : 1)
  const at = (entry: WalkedEntry, pack: number): PackedEntry => {
    const { inode: _inode, changed: _changed, ...rest } = entry
    return { ...rest, pack }
  }
  const stays = Array.from(plan.stays, ([entry, index]) => {
    const place = placeOf.get(index)
    if (place === undefined) throw new HearthError('internal', 'an entry stays in no pack')
    return at(entry, place)
  })
  const added = plan.added.map((entry) => at(entry, addedPlace))
  const folders = plan.folders.map((entry) => at(entry, foldersPlace))
  const entries = [...stays, ...added, ...folders].sort((a, b) => (a.path < b.path ? -1 : 1))
  const dead = plan.dead.flatMap(({ path: name, pack }) => {
    const place = placeOf.get(pack)
    return place === undefined ? [] : [{ path: name, pack: place }]
  })
  return { entries, dead }
}

function* paths(entries: readonly WalkedEntry[]): Iterable<string> {
  for (const { path: name } of entries) yield name
}
