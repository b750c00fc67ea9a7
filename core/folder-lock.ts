/**
 * One process per data folder. The lock is a file that names its owner; it is stale once that process has
 * ended, however it ended.
 */
import { link, readFile, rename, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { z } from 'zod'
import { HearthError, hasErrno, toHearthError } from './errors.ts'

const ownerShape = z.object({
  pid: z.int().positive(),
  /** In clock ticks since boot, so that a later process with the same id is told apart. Linux only. */
  startedAtTicks: z.string().optional(),
})
type Owner = z.infer<typeof ownerShape>

/** How often a stale lock may turn out to have been taken by somebody else in the meantime. */
const triesMax = 5

/**
 * Takes the folder for this process until disposal.
 * @param holder who holds such a folder, for the message: "a coordinator".
 * @throws HearthError `environment` when a living process has it.
 */
export async function lockFolder(folder: string, holder: string): Promise<AsyncDisposable> {
  const file = path.join(folder, 'lock')
  const own = `${file}.${process.pid}.${Math.random().toString(36).slice(2)}`
  const content = JSON.stringify({
    pid: process.pid,
    startedAtTicks: await startOfProcess(process.pid),
  })
  try {
    await writeFile(own, content, { mode: 0o600 })
    for (let tries = 0; tries < triesMax; tries += 1) {
      if (await linked(own, file)) {
        return { [Symbol.asyncDispose]: () => unlock(file, content) }
      }
      const found = await readOrUndefined(file)
      if (found === undefined) continue
      const owner = parseOwner(found)
      if (owner !== undefined && (await isAlive(owner))) throw inUse(folder, holder, owner)
      await removeStale(file, found, own)
    }
  } catch (error) {
    throw toHearthError(error, `lock ${folder}`)
  } finally {
    await rm(own, { force: true })
  }
  throw new HearthError('environment', `${folder} is being taken by another process`, {
    hint: 'try again',
  })
}

/** The id of the living process that has the folder, if one has. */
export async function findFolderOwner(folder: string): Promise<number | undefined> {
  const found = await readOrUndefined(path.join(folder, 'lock'))
  const owner = found === undefined ? undefined : parseOwner(found)
  return owner !== undefined && (await isAlive(owner)) ? owner.pid : undefined
}

function inUse(folder: string, holder: string, owner: Owner): HearthError {
  return new HearthError('environment', `${folder} is in use by ${holder} (process ${owner.pid})`, {
    hint: 'stop that one first, or name another folder with --data',
  })
}

/** A hard link is made whole or not at all, and never over an existing file. */
async function linked(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to)
    return true
  } catch (error) {
    if (hasErrno(error, 'EEXIST')) return false
    throw error
  }
}

/** Moves the stale lock aside; a lock that took its place meanwhile is put back. */
async function removeStale(file: string, stale: string, own: string): Promise<void> {
  const aside = `${own}.stale`
  try {
    await rename(file, aside)
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return
    throw error
  }
  if ((await readOrUndefined(aside)) !== stale) await linked(aside, file)
  await rm(aside, { force: true })
}

async function unlock(file: string, content: string): Promise<void> {
  if ((await readOrUndefined(file)) === content) await rm(file, { force: true })
}

async function isAlive(owner: Owner): Promise<boolean> {
  try {
    process.kill(owner.pid, 0)
  } catch (error) {
    // EPERM: it lives and is somebody else's.
    if (!hasErrno(error, 'EPERM')) return false
  }
  return owner.startedAtTicks === undefined
    ? true
    : (await startOfProcess(owner.pid)) === owner.startedAtTicks
}

/** Field 22 of /proc/PID/stat (man 5 proc); undefined where there is none, or the process is a zombie. */
async function startOfProcess(pid: number): Promise<string | undefined> {
  const stat = await readOrUndefined(`/proc/${pid}/stat`)
  // The second field is the program's name in brackets and may hold anything, brackets too.
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ')
  return fields?.[0] === 'Z' ? undefined : fields?.[19]
}

async function readOrUndefined(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ESRCH')) return undefined
    throw error
  }
}

function parseOwner(text: string): Owner | undefined {
  try {
    return ownerShape.parse(JSON.parse(text))
  } catch {
    // Links are made whole, so this is no lock of ours that is being written: treat it as stale.
    return undefined
  }
}
