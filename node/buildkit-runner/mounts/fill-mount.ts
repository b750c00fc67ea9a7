/**
 * Fills an empty mount from the scope's snapshots.
 *
 * A step waits for it: give up early rather than late. The new content is made beside the mount and takes its place in
 * one rename, so a step sees all of it or none, whatever ends on the way. Where BuildKit has mounted the folder already,
 * a mark that outlives us says that it is being filled, and whoever finds that mark empties the mount first.
 */
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, rename, rm } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import { describeError, HearthError, toHearthError } from '../../../core/errors.ts'
import type { Logger } from '../../../core/log.ts'
import type { Scope } from '../../../core/scope.ts'
import type { CacheStore, Pin } from '../../cache-store/index.ts'
import type { BlobSources } from '../../cache-store/sources/index.ts'
import { systemPath } from '../daemon/index.ts'
import { blobsOf, savedMs } from './document.ts'
import { readEntries } from './entries.ts'
import type { Blob, FillOutcome, MountName } from './index.ts'
import { type KnownSnapshot, lineageOf } from './known-snapshots.ts'
import type { LocalMounts, MountWithBase } from './local-mounts.ts'
import type { MountPlace } from './locate.ts'
import type { Pace } from './pace.ts'
import { contentName, unpack } from './packs.ts'
import { readBlob } from './small-blobs.ts'
import { type HeadContent, type MountContent, unite } from './union.ts'
import { type WalkedEntry, walk } from './walk.ts'

export interface FillDeps {
  store: CacheStore
  sources: BlobSources | undefined
  local: Pick<LocalMounts, 'beginFilling' | 'endFilling'>
  pace: Pace
  log: Logger
}

export interface EmptyMount {
  readonly scope: Scope
  readonly name: MountName
  readonly place: MountPlace
  /** Of the daemon: on the mount's file system, and a process in its mount namespace. */
  readonly temporary: string
  readonly pid: number
}

export type Filled = FillOutcome & {
  readonly mount?: Pick<MountWithBase, 'base' | 'parents' | 'kind'>
}

/** @param heads the newest last; at least one. */
export async function fillMount(
  deps: FillDeps,
  mount: EmptyMount,
  heads: readonly KnownSnapshot[],
  { signal }: { signal: AbortSignal },
): Promise<Filled> {
  const { store, log } = deps
  const { scope } = mount
  const newest = heads.at(-1)
  if (newest === undefined || newest.document.files === 0) return left('no snapshot yet')
  const isUnion = heads.every(({ document }) => document.kind === 'union')
  const used = isUnion ? heads.filter(({ document }) => document.files > 0) : [newest]
  if (!isWorthIt(deps, scope, used)) return left('larger than what it saves')
  const startedAtMs = performance.now()
  using pin = store.pin(scope, [])
  try {
    const lists = used.map(({ document }) => document.list)
    if (!(await bringAll(deps, scope, lists, pin, signal))) return left('not to be had')
    const contents = await Promise.all(used.map((head) => readHead(store, scope, head, signal)))
    const content = unite(contents) ?? unite(contents.slice(-1))
    if (content === undefined) return left('damaged')
    if (!(await bringAll(deps, scope, content.packs, pin, signal))) return left('not to be had')
    const broughtAtMs = performance.now()
    const entries = await putInPlace(deps, mount, content, signal)
    const bytes = content.entries.reduce((sum, { size }) => sum + size, 0)
    const files = content.entries.filter(({ type }) => type !== 'folder').length
    deps.pace.unpacked(bytes, performance.now() - broughtAtMs)
    const tookMs = Math.round(performance.now() - startedAtMs)
    log.info({ mount: mount.name.id, bytes, files, tookMs }, 'a cache mount was filled')
    const packOf = new Map(content.entries.map((entry) => [entry.path, entry.pack]))
    const base = {
      packs: content.packs,
      entries: entries.map((entry) => ({ ...entry, pack: packOf.get(entry.path) ?? 0 })),
      dead: content.dead,
    }
    // The others, too: what comes of this mount is newer than all that was known when it was filled.
    const parents = lineageOf(heads)
    return { type: 'filled', bytes, files, mount: { base, parents, kind: newest.document.kind } }
  } catch (error) {
    if (signal.aborted) return left('deadline passed')
    const { code } = toHearthError(error)
    log.warn({ mount: mount.name.id, reason: describeError(error) }, 'a cache mount stays empty')
    return left(code === 'corrupt' ? 'damaged' : 'not to be had')
  }
}

function left(reason: (FillOutcome & { type: 'left' })['reason']): Filled {
  return { type: 'left', reason }
}

/** Against what a filled mount has saved before; where nobody knows that, it is tried. */
function isWorthIt(
  { sources, store, pace }: FillDeps,
  scope: Scope,
  heads: readonly KnownSnapshot[],
): boolean {
  const blobs = new Map(
    heads.flatMap(({ document }) => blobsOf(document)).map((blob) => [blob.digest, blob]),
  )
  const lacking = [...blobs.values()].filter(
    (blob) => (sources?.whereabouts(scope, blob) ?? heldHere(store, scope, blob)) !== 'held',
  )
  const bytesToBring = lacking.reduce((sum, { size }) => sum + size, 0)
  const bytesToUnpack = heads.reduce((sum, { document }) => sum + document.bytes, 0)
  const fillMs = pace.fillMs({ bytesToBring, bytesToUnpack })
  const saved = heads.map(({ document }) => savedMs(document)).filter((each) => each !== undefined)
  return saved.length === 0 || fillMs < Math.max(tryAnywayMs, ...saved)
}

/** Below this, what steps have taken before is chance. */
const tryAnywayMs = 2_000

function heldHere(store: CacheStore, scope: Scope, { digest }: Blob): 'held' | undefined {
  return store.stat(scope, digest) === undefined ? undefined : 'held'
}

const bringsMax = 4

/** @returns false when somebody could not be had. */
async function bringAll(
  { store, sources, pace }: FillDeps,
  scope: Scope,
  blobs: readonly Blob[],
  pin: Pin,
  signal: AbortSignal,
): Promise<boolean> {
  const waiting = blobs.filter(({ digest }) => pin.add([digest]).length === 0)
  const bytes = waiting.reduce((sum, { size }) => sum + size, 0)
  const startedAtMs = performance.now()
  let isWhole = true
  const bring = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined && isWhole; next = waiting.shift()) {
      const { digest, size } = next
      // Whoever asks the sources has proof that the blob is the scope's: a signed snapshot of the scope names it.
      if (pin.add([digest]).length > 0) continue
      const brought = await sources?.bring(scope, { digest, size }, { signal })
      if (brought === undefined || brought.type === 'missed' || pin.add([digest]).length === 0) {
        if ((await store.own(scope, digest)) === undefined || pin.add([digest]).length === 0)
          isWhole = false
      }
    }
  }
  await Promise.all(Array.from({ length: bringsMax }, bring))
  if (isWhole) pace.brought(bytes, performance.now() - startedAtMs)
  return isWhole
}

async function readHead(
  store: CacheStore,
  scope: Scope,
  { document }: KnownSnapshot,
  signal: AbortSignal,
): Promise<HeadContent> {
  const bytes = await readBlob(store, scope, document.list, { signal })
  return { document, ...(await readEntries(bytes, document.packs.length)) }
}

/** @returns what is in the mount now, as later walks will find it. */
async function putInPlace(
  { store, local, log }: FillDeps,
  { scope, place, temporary, pid }: EmptyMount,
  content: MountContent,
  signal: AbortSignal,
): Promise<readonly WalkedEntry[]> {
  const { mountPoint } = place
  const name = `hearth-${randomBytes(8).toString('hex')}`
  const jail = path.join(temporary, `${name}-jail`)
  await mkdir(jail)
  // A folder of an overlay that BuildKit has mounted already cannot be replaced; its content can.
  const beside = mountPoint ?? temporary
  const work = path.join(seenFrom(pid, place), mountPoint === undefined ? '' : name)
  const where =
    mountPoint === undefined
      ? { jail, work: path.join(temporary, name), workInside: path.join(temporary, name) }
      : { jail, work, workInside: path.join(beside, name), namespaceOf: pid }
  try {
    if (mountPoint !== undefined) await local.beginFilling(place.snapshot)
    const entries = await unpack(store, scope, where, content, { signal })
    signal.throwIfAborted()
    if (mountPoint === undefined) {
      // Over an empty folder, which one that somebody has filled meanwhile is not (rename(2): ENOTEMPTY).
      await rename(path.join(where.work, contentName), place.content)
      return entries
    }
    await moveUp(path.join(work, contentName), seenFrom(pid, place))
    await rm(work, { recursive: true })
    const root = content.entries.find((entry) => entry.path === '')
    if (root !== undefined) await setTime(seenFrom(pid, place), root.modified)
    await local.endFilling(place.snapshot)
    return (await walk(place.content, { signal })).entries
  } catch (error) {
    if (mountPoint !== undefined) await emptyAgain(local, place, pid)
    if (error instanceof HearthError) throw error
    throw toHearthError(error, 'put a cache mount in its place')
  } finally {
    for (const folder of [where.work, jail]) {
      rm(folder, { recursive: true, force: true }).catch((error: unknown) => {
        log.warn({ folder, reason: describeError(error) }, 'what is left of a fill is in the way')
      })
    }
  }
}

/** The folder that the step will see, as it is reached from here. */
function seenFrom(pid: number, { mountPoint, content }: MountPlace): string {
  return mountPoint === undefined ? content : `/proc/${pid}/root${mountPoint}`
}

async function moveUp(from: string, to: string): Promise<void> {
  for (const name of await readdir(from, { encoding: 'buffer' })) {
    await rename(joined(from, name), joined(to, name))
  }
}

/** Names are bytes. */
function joined(folder: string, name: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${folder}/`), name])
}

/** To the nanosecond, which Node's own call loses. */
async function setTime(folder: string, modified: string): Promise<void> {
  await promisify(execFile)('touch', [`--date=@${modified}`, folder], {
    env: { PATH: systemPath() },
  })
}

/** What a fill that never ended has left in a mount goes before anybody sees it. */
export async function emptyAgain(
  local: Pick<LocalMounts, 'endFilling'>,
  place: MountPlace,
  pid: number,
): Promise<void> {
  const folder = seenFrom(pid, place)
  for (const name of await readdir(folder, { encoding: 'buffer' })) {
    await rm(joined(folder, name), { recursive: true })
  }
  await local.endFilling(place.snapshot)
}
