/**
 * What this node knows of the cache mounts that BuildKit has here, one file each: the snapshot that a mount was last the
 * same as, and when a step may have been killed in it. Losing a file costs a whole snapshot instead of a small one.
 */
import {
  chmod,
  mkdir,
  open as openFile,
  readdir,
  readFile,
  rm,
  stat,
  writeFile,
} from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import { zstdCompress, zstdDecompress } from 'node:zlib'
import { type Digest, digestHex, digestOf } from '../../../core/digest.ts'
import { hasErrno } from '../../../core/errors.ts'
import { writeFileDurably } from '../../../core/format-version.ts'
import type { Scope } from '../../../core/scope.ts'
import type { MountKind, MountName } from './index.ts'
import type { MountBase } from './plan-snapshot.ts'

export interface LocalMount {
  readonly version: 1
  /** See MountPlace. */
  readonly snapshot: string
  readonly content: string
  readonly scope: Scope
  readonly name: MountName
  readonly kind: MountKind
  /** How steps call it: its targets. */
  readonly targets: readonly string[]
  /** Snapshots that the base is made of, and those that these had replaced. */
  readonly parents: readonly Digest[]
  /** Times by the kernel's clock, as WalkedEntry.changed has them, between which killed steps may have written. */
  readonly doubts: readonly (readonly [from: string, to: string])[]
  readonly coldMs?: number | undefined
  readonly warmMs?: number | undefined
  readonly lastUsedAtMs: number
}

/** A mount with what it was when it was last the same as a snapshot: large, so it is read when it is needed. */
export interface MountWithBase extends LocalMount {
  readonly base: MountBase | undefined
}

export interface LocalMounts {
  get(snapshot: string): LocalMount | undefined
  all(): readonly LocalMount[]
  put(mount: LocalMount): Promise<void>
  base(snapshot: string): Promise<MountBase | undefined>
  putBase(snapshot: string, base: MountBase | undefined): Promise<void>
  remove(snapshot: string): Promise<void>
  /**
   * Says durably that a step has the mount, so that a next life knows of those that it did not see end.
   * @returns the time by the kernel's clock.
   */
  open(snapshot: string): Promise<string>
  /** When it was opened first, since it was closed. */
  openedAt(snapshot: string): Promise<string | undefined>
  /** The time by the clock by which the kernel says when files change. */
  now(): Promise<string>
  close(snapshot: string): Promise<void>
  /** Says durably that the mount is being filled in several steps. */
  beginFilling(snapshot: string): Promise<void>
  endFilling(snapshot: string): Promise<void>
  /** Whether that began in an earlier life and never ended. */
  isHalfFilled(snapshot: string): Promise<boolean>
  /** Whether a step of an earlier life had it and was never seen to end. */
  wasOpen(snapshot: string): boolean
}

/** Written by ourselves for ourselves: what does not look right is as good as lost. */
export async function openLocalMounts(folder: string): Promise<LocalMounts> {
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const mounts = new Map<string, LocalMount>()
  const open = new Set<string>()
  const fileOf = (snapshot: string): string => path.join(folder, digestHex(digestOf(snapshot)))
  const markOf = (snapshot: string): string => `${fileOf(snapshot)}.open`
  const baseOf = (snapshot: string): string => `${fileOf(snapshot)}.base`
  const fillMarkOf = (snapshot: string): string => `${fileOf(snapshot)}.filling`
  const names = new Set(await readdir(folder))
  for (const name of names) {
    if (!/^[0-9a-f]{64}$/.test(name)) continue
    const file = path.join(folder, name)
    const mount = await readMount(file)
    if (mount === undefined || !(await isFolder(mount.snapshot))) {
      for (const left of ['', '.open', '.base', '.filling']) {
        await rm(`${file}${left}`, { force: true })
      }
      continue
    }
    mounts.set(mount.snapshot, mount)
    if (names.has(`${name}.open`)) open.add(mount.snapshot)
  }

  async function now(): Promise<string> {
    const file = path.join(folder, 'clock')
    await writeFile(file, '')
    await chmod(file, 0o600)
    return changeTimeOf(file)
  }

  return {
    get: (snapshot) => mounts.get(snapshot),
    all: () => [...mounts.values()],
    async put(mount) {
      mounts.set(mount.snapshot, mount)
      await writeFileDurably(fileOf(mount.snapshot), JSON.stringify(mount))
    },
    base: (snapshot) => readBase(baseOf(snapshot)),
    async putBase(snapshot, base) {
      if (base === undefined) return await rm(baseOf(snapshot), { force: true })
      const bytes = await promisify(zstdCompress)(JSON.stringify(base))
      await writeFileDurably(baseOf(snapshot), bytes)
    },
    async remove(snapshot) {
      mounts.delete(snapshot)
      await rm(fileOf(snapshot), { force: true })
      await rm(baseOf(snapshot), { force: true })
    },
    async open(snapshot) {
      const handle = await openFile(markOf(snapshot), 'a')
      await handle.close()
      return await now()
    },
    openedAt: (snapshot) => changeTimeOf(markOf(snapshot)).catch(() => undefined),
    now,
    async close(snapshot) {
      open.delete(snapshot)
      await rm(markOf(snapshot), { force: true })
    },
    async beginFilling(snapshot) {
      await writeFileDurably(fillMarkOf(snapshot), '')
    },
    endFilling: (snapshot) => rm(fillMarkOf(snapshot), { force: true }),
    isHalfFilled: (snapshot) =>
      stat(fillMarkOf(snapshot)).then(
        () => true,
        () => false,
      ),
    wasOpen: (snapshot) => open.has(snapshot),
  }
}

async function readMount(file: string): Promise<LocalMount | undefined> {
  try {
    const mount = JSON.parse(await readFile(file, 'utf8')) as LocalMount
    return mount.version === 1 ? mount : undefined
  } catch {
    return undefined
  }
}

async function readBase(file: string): Promise<MountBase | undefined> {
  try {
    const text = await promisify(zstdDecompress)(await readFile(file))
    return JSON.parse(text.toString()) as MountBase
  } catch {
    return undefined
  }
}

/** In the form of find(1)'s, as WalkedEntry.changed. */
async function changeTimeOf(file: string): Promise<string> {
  const { ctimeNs } = await stat(file, { bigint: true })
  const perSecond = 1_000_000_000n
  return `${ctimeNs / perSecond}.${String(ctimeNs % perSecond).padStart(9, '0')}0`
}

async function isFolder(folder: string): Promise<boolean> {
  try {
    await readdir(folder)
    return true
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return false
    throw error
  }
}
