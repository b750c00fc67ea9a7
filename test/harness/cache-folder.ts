/** What costs time to make and is the same for every run lies in the user's cache folder, made once. */
import { access, mkdir, rename, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'

/** `hearth/NAME` in the user's cache folder. */
export function cacheFolder(name: string, env: NodeJS.ProcessEnv = process.env): string {
  const cache = env.XDG_CACHE_HOME || path.join(env.HOME || os.homedir(), '.cache')
  return path.join(cache, 'hearth', name)
}

/**
 * The folder, filled by `make` if it is not there. It appears whole or not at all; of two that make it at
 * once, the first wins.
 */
export async function madeOnce(
  folder: string,
  make: (temporary: string) => Promise<void>,
): Promise<string> {
  if (await exists(folder)) return folder
  const temporary = `${folder}.${process.pid}.${Math.random().toString(36).slice(2)}.tmp`
  await mkdir(temporary, { recursive: true })
  try {
    await make(temporary)
    await rename(temporary, folder)
  } catch (error) {
    await rm(temporary, { recursive: true, force: true })
    if (!(await exists(folder))) throw error
  }
  return folder
}

async function exists(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  )
}
