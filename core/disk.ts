/** How full a disk is, and how much of it some folders take. */
import { execFile } from 'node:child_process'
import { statfs } from 'node:fs/promises'
import { promisify } from 'node:util'
import { HearthError } from './errors.ts'

export interface DiskSpace {
  /** Bytes that this process could still write. */
  readonly freeBytes: number
  /** Size of the file system. */
  readonly totalBytes: number
}

/** Costs some ten microseconds; what waits to be written to the disk counts as used (ext4, xfs). */
export async function measureSpace(folder: string): Promise<DiskSpace> {
  const { bavail, blocks, bsize } = await statfs(folder)
  return { freeBytes: bavail * bsize, totalBytes: blocks * bsize }
}

/** Hundreds of thousands of files on a slow disk. */
const walkMs = 10 * 60_000

/**
 * Bytes on disk of all that is in these folders, files with several names counted once. Other file systems
 * mounted below are left out. What changes meanwhile is measured roughly.
 * @throws HearthError `environment`, `cancelled`
 */
export async function measureFolders(
  folders: readonly string[],
  { signal }: { signal?: AbortSignal | undefined } = {},
): Promise<number> {
  if (folders.length === 0) return 0
  // In a process of its own, and behind the builds: a second for 100,000 files that are not in memory.
  const options = ['--summarize', '--total', '--one-file-system', '--block-size=1', '--']
  const { stdout, stderr } = await run(['-n', '10', 'du', ...options, ...folders], signal)
  // Files that vanish under its eyes make du exit with 1, its total is good all the same.
  const total = stdout.match(/^(\d+)\ttotal$/m)?.[1]
  if (total !== undefined) return Number(total)
  if (signal?.aborted) throw new HearthError('cancelled', 'measuring the disk was cancelled')
  throw new HearthError('environment', `cannot measure ${folders.join()}: ${stderr.trim()}`)
}

async function run(
  args: readonly string[],
  signal: AbortSignal | undefined,
): Promise<{ stdout: string; stderr: string }> {
  try {
    return await promisify(execFile)('nice', args, {
      env: { PATH: process.env.PATH || '/usr/local/bin:/usr/bin:/bin', LC_ALL: 'C' },
      timeout: walkMs,
      killSignal: 'SIGKILL',
      ...(signal === undefined ? {} : { signal }),
    })
  } catch (error) {
    const { stdout = '', stderr, message } = error as Error & { stdout?: string; stderr?: string }
    return { stdout, stderr: stderr || message }
  }
}
