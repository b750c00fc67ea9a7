/** The control group under which all steps of one daemon run, on cgroup v2 and on v1's many trees. */
import { access, mkdir, readdir, readFile, rmdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { hasErrno } from '../../../core/errors.ts'

const mountPoint = '/sys/fs/cgroup'

/** As BuildKit's `defaultCgroupParent` takes it. */
export function controlGroupOf(bridge: string): string {
  return `hearth-${bridge}`
}

export interface GroupLimits {
  /** Memory, with swap where the kernel counts it, and files in memory. */
  readonly memoryBytes: number
  /** Processes and threads. */
  readonly pids: number
  /** Cores; undefined: as many as are idle. */
  readonly cpus: number | undefined
  /** Share of the cores when others want them too; 1 is a neighbour's with one build. */
  readonly weight: number
}

/** What the kernel does not limit here: it lacks the controller, or nobody may use it. */
export type Unlimited = 'memory' | 'pids' | 'cpu'

/** The period over which a limit of cores is kept (the kernel's default, sched-bwc.rst). */
const periodUs = 100_000

const controllers = ['memory', 'pids', 'cpu'] as const satisfies readonly Unlimited[]

/** @param root where control groups are mounted. */
export async function makeControlGroup(name: string, root = mountPoint): Promise<void> {
  if (await isUnified(root)) {
    for (const controller of controllers) {
      await writeIfPossible(path.join(root, 'cgroup.subtree_control'), `+${controller}`)
    }
    await mkdir(path.join(root, name), { recursive: true })
    return
  }
  for (const tree of controllers) {
    if (!(await isThere(path.join(root, tree)))) continue
    await mkdir(path.join(root, tree, name), { recursive: true })
  }
}

/**
 * Limits a group that is there. Lower limits kill nobody: a build that was let in with more memory keeps it
 * when another one ends.
 * @param root where control groups are mounted.
 * @see cgroup-v2.rst, cgroup-v1/memory.rst, cgroup-v1/pids.rst and scheduler/sched-bwc.rst of the kernel.
 */
export async function limitControlGroup(
  name: string,
  limits: GroupLimits,
  root = mountPoint,
): Promise<Unlimited[]> {
  const unified = await isUnified(root)
  return unified ? limitUnified(root, name, limits) : limitTrees(root, name, limits)
}

async function limitUnified(root: string, name: string, limits: GroupLimits): Promise<Unlimited[]> {
  const group = path.join(root, name)
  const set = (file: string, value: string) => writeIfPossible(path.join(group, file), value)
  const needed = await bytesNeeded(path.join(group, 'memory.stat'))
  const quota = limits.cpus === undefined ? 'max' : String(Math.round(limits.cpus * periodUs))
  const done = {
    memory: await set('memory.max', String(Math.max(limits.memoryBytes, needed))),
    pids: await set('pids.max', String(limits.pids)),
    cpu: await set('cpu.max', `${quota} ${periodUs}`),
  }
  await set('memory.swap.max', '0')
  await set('cpu.weight', String(Math.min(10_000, Math.round(100 * limits.weight))))
  return undone(done)
}

async function limitTrees(root: string, name: string, limits: GroupLimits): Promise<Unlimited[]> {
  const set = (tree: string, file: string, value: string) =>
    writeIfPossible(path.join(root, tree, name, file), value)
  // The one with swap may never be the smaller: it goes first on the way up, and last on the way down. The
  // kernel refuses what is less than it can squeeze the group into.
  const memory = String(limits.memoryBytes)
  await set('memory', 'memory.memsw.limit_in_bytes', memory)
  await set('memory', 'memory.limit_in_bytes', memory)
  await set('memory', 'memory.memsw.limit_in_bytes', memory)
  const quota = limits.cpus === undefined ? '-1' : String(Math.round(limits.cpus * periodUs))
  await set('cpu', 'cpu.cfs_period_us', String(periodUs))
  const done = {
    memory: await isThere(path.join(root, 'memory', name, 'memory.limit_in_bytes')),
    pids: await set('pids', 'pids.max', String(limits.pids)),
    cpu: await set('cpu', 'cpu.cfs_quota_us', quota),
  }
  await set('cpu', 'cpu.shares', String(Math.min(262_144, Math.round(1024 * limits.weight))))
  return undone(done)
}

function undone(done: Record<Unlimited, boolean>): Unlimited[] {
  return controllers.filter((controller) => !done[controller])
}

/** Removes what the steps of an ended daemon have left. A group that is still busy stays. */
export async function removeControlGroup(name: string): Promise<void> {
  const trees = await readdir(mountPoint).catch(() => [])
  for (const tree of ['.', ...trees]) await removeEmptyFolders(path.join(mountPoint, tree, name))
}

async function removeEmptyFolders(folder: string): Promise<void> {
  try {
    for (const entry of await readdir(folder, { withFileTypes: true })) {
      if (entry.isDirectory()) await removeEmptyFolders(path.join(folder, entry.name))
    }
    await rmdir(folder)
  } catch (error) {
    if (!hasErrno(error, 'ENOENT', 'ENOTDIR', 'EBUSY', 'EROFS')) throw error
  }
}

/** False when there is no such file, or the kernel does not take the value: files of control groups are never made. */
async function writeIfPossible(file: string, value: string): Promise<boolean> {
  try {
    await writeFile(file, value, { flag: 'r+' })
    return true
  } catch (error) {
    const expected = ['ENOENT', 'EBUSY', 'EINVAL', 'EACCES', 'EPERM', 'EROFS', 'EOPNOTSUPP']
    if (hasErrno(error, ...expected)) return false
    throw error
  }
}

/** What v2 cannot take back from a group without killing, and some more: it would not refuse, but kill. */
async function bytesNeeded(statFile: string): Promise<number> {
  const text = await readFile(statFile, 'utf8').catch(() => '')
  const fields = [...text.matchAll(/^(?:anon|shmem|kernel) (\d+)$/gm)]
  return Math.ceil(1.1 * fields.reduce((sum, [, bytes]) => sum + Number(bytes), 0))
}

function isUnified(root: string): Promise<boolean> {
  return isThere(path.join(root, 'cgroup.controllers'))
}

async function isThere(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  )
}
