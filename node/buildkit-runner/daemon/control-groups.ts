/** The control group under which all steps of one daemon run, on cgroup v2 and on v1's many trees. */
import { readdir, rmdir } from 'node:fs/promises'
import path from 'node:path'
import { hasErrno } from '../../../core/errors.ts'

const mountPoint = '/sys/fs/cgroup'

/** As BuildKit's `defaultCgroupParent` takes it. */
export function controlGroupOf(bridge: string): string {
  return `hearth-${bridge}`
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
