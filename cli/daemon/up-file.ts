/** `up.json` in the data folder: how to reach what `hearth up` started there, and whether it still runs. */
import { readFile, rm } from 'node:fs/promises'
import path from 'node:path'
import { HearthError } from '../../core/errors.ts'
import { findFolderOwner, lockFolder } from '../../core/folder-lock.ts'
import { writeFileDurably } from '../../core/format-version.ts'

export interface UpProcess {
  readonly pid: number
  /** Undefined until it is ready. */
  readonly ready: UpFacts | undefined
}

export interface UpFacts {
  /** Of the coordinator, as "host:port". */
  readonly address: string
  readonly nodeId: string
  readonly nodeIds: readonly string[]
}

export interface UpClaim extends AsyncDisposable {
  markReady(facts: UpFacts): Promise<void>
}

const version = 1

/** The process that holds the folder, if one does. */
export async function findUpProcess(dataFolder: string): Promise<UpProcess | undefined> {
  const pid = await findFolderOwner(dataFolder)
  return pid === undefined ? undefined : { pid, ready: await readFacts(dataFolder, pid) }
}

/**
 * Holds the folder for this process until disposed.
 * @throws HearthError `environment` when another process has it.
 */
export async function claimUp(dataFolder: string): Promise<UpClaim> {
  const lock = await lockFolder(dataFolder, 'another "hearth up"')
  const file = upFile(dataFolder)
  return {
    markReady: (facts) =>
      writeFileDurably(file, JSON.stringify({ version, pid: process.pid, ...facts })),
    async [Symbol.asyncDispose]() {
      await rm(file, { force: true })
      await lock[Symbol.asyncDispose]()
    },
  }
}

/** Resolves when the process has let the folder go and has ended. @throws HearthError `deadline` */
export async function waitUntilGone(
  dataFolder: string,
  pid: number,
  timeoutMs: number,
): Promise<void> {
  const deadlineMs = performance.now() + timeoutMs
  // No event tells the end of a process that is not our child.
  while ((await findFolderOwner(dataFolder)) === pid || (await isRunning(pid))) {
    if (performance.now() > deadlineMs) {
      throw new HearthError('deadline', `process ${pid} does not end`, {
        hint: `its log says why; "kill -9 ${pid}" ends it at once`,
      })
    }
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/** A zombie has ended, whether or not somebody takes note of it. */
async function isRunning(pid: number): Promise<boolean> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8')
    return !stat.slice(stat.lastIndexOf(')')).startsWith(') Z')
  } catch {
    return false
  }
}

function upFile(dataFolder: string): string {
  return path.join(dataFolder, 'up.json')
}

/** A file of an earlier process says nothing about this one. */
async function readFacts(dataFolder: string, pid: number): Promise<UpFacts | undefined> {
  try {
    const text = await readFile(upFile(dataFolder), 'utf8')
    const content = JSON.parse(text) as Partial<Record<string, unknown>>
    const { address, nodeId } = content
    if (content.pid !== pid || typeof address !== 'string' || typeof nodeId !== 'string') {
      return undefined
    }
    const { nodeIds } = content
    const ids = Array.isArray(nodeIds) ? nodeIds.filter((id) => typeof id === 'string') : [nodeId]
    return { address, nodeId, nodeIds: ids }
  } catch {
    return undefined
  }
}
