/**
 * One process per data folder. The lock is a file that names its owner; it is stale once that process has
 * ended, however it ended.
 */
import { randomBytes } from 'node:crypto'
import { link, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { z } from 'zod'
import { HearthError, hasErrno, toHearthError } from './errors.ts'

const ownerShape = z.object({
  pid: z.int().positive(),
  /** In clock ticks since boot, so that a later process with the same id is told apart. Linux only. */
  startedAtTicks: z.string().optional(),
})
type Owner = z.infer<typeof ownerShape>

/** How often somebody else may be quicker before this one gives up. */
const triesMax = 20

/**
 * Takes the folder for this process until disposal.
 *
 * Lock files are numbered, and the one with the highest number counts: it is never removed, only followed by
 * the next once its owner has let go or ended. A number is taken by a hard link, which fails where there is
 * a file, so that of many who find the same stale lock one gets the next number. Whoever was so slow that
 * its number had been passed and cleared away sees the higher one and starts over.
 *
 * @param holder who holds such a folder, for the message: "a coordinator".
 * @throws HearthError `environment` when a living process has it.
 */
export async function lockFolder(folder: string, holder: string): Promise<AsyncDisposable> {
  const own = path.join(folder, `${lockName}.${process.pid}-${randomBytes(6).toString('hex')}`)
  const owner: Owner = { pid: process.pid, startedAtTicks: await startOfProcess(process.pid) }
  try {
    await writeFile(own, JSON.stringify(owner), { mode: 0o600 })
    for (let tries = 0; tries < triesMax; tries += 1) {
      const highest = Math.max(0, ...(await numbersIn(folder)))
      const found = await ownerOf(folder, highest)
      if (found !== undefined && (await isAlive(found))) throw inUse(folder, holder, found)
      const number = highest + 1
      if (!(await linked(own, lockFile(folder, number)))) continue
      const numbers = await numbersIn(folder)
      const isHighest = Math.max(...numbers) === number
      const passed = isHighest ? numbers.filter((other) => other < number) : [number]
      for (const other of passed) await rm(lockFile(folder, other), { force: true })
      if (isHighest) return { [Symbol.asyncDispose]: () => unlock(folder, number) }
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
  const owner = await ownerOf(folder, Math.max(0, ...(await numbersIn(folder))))
  return owner !== undefined && (await isAlive(owner)) ? owner.pid : undefined
}

const lockName = 'lock'

function lockFile(folder: string, number: number): string {
  return path.join(folder, `${lockName}.${number}`)
}

async function numbersIn(folder: string): Promise<number[]> {
  const names = await readdir(folder).catch((error: unknown) => {
    if (hasErrno(error, 'ENOENT')) return []
    throw error
  })
  return names.flatMap((name) => {
    const number = /^lock\.(\d{1,12})$/.exec(name)?.[1]
    return number === undefined ? [] : [Number(number)]
  })
}

/** Undefined when nobody has it: no lock, let go, or no lock of ours. */
async function ownerOf(folder: string, number: number): Promise<Owner | undefined> {
  const text = await readOrUndefined(lockFile(folder, number))
  try {
    return ownerShape.parse(JSON.parse(text ?? ''))
  } catch {
    // Links are made whole, so what cannot be read is not being written either.
    return undefined
  }
}

/** The file stays, because its number counts. */
async function unlock(folder: string, number: number): Promise<void> {
  const released = path.join(folder, `${lockName}.${number}.released`)
  try {
    await writeFile(released, '{}', { mode: 0o600 })
    await rename(released, lockFile(folder, number))
  } catch (error) {
    // The folder itself may be gone by now.
    if (!hasErrno(error, 'ENOENT')) throw error
  }
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
