/**
 * buildkitd's log: it writes the file itself, so that its last words survive us, and we keep it short and
 * read its end when something went wrong.
 */
import { copyFile, open, stat, truncate } from 'node:fs/promises'
import { hasErrno } from '../../../core/errors.ts'

/** Keeps what is longer than `bytesMax` as `<file>.1` and starts anew. The writer must append. */
export async function rotateLog(file: string, bytesMax: number): Promise<void> {
  if ((await logBytes(file)) <= bytesMax) return
  await copyFile(file, `${file}.1`)
  await truncate(file)
}

export async function logBytes(file: string): Promise<number> {
  try {
    return (await stat(file)).size
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return 0
    throw error
  }
}

/** The text from a position on, at most its last `bytesMax`. */
export async function readLogFrom(file: string, start: number, bytesMax: number): Promise<string> {
  try {
    await using handle = await open(file)
    const { size } = await handle.stat()
    const from = Math.max(start > size ? 0 : start, size - bytesMax)
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(size - from), 0, size - from, from)
    return buffer.subarray(0, bytesRead).toString()
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return ''
    throw error
  }
}

/** The last messages for a person: without timestamps, levels and Go's stack frames. */
export function lastMessages(log: string, count: number): string[] {
  const lines = log.split('\n').filter((line) => line.trim() !== '')
  // A stack frame is a function's name, and below it, indented, where it is.
  const worded = lines.filter(
    (line, index) => !/^\t/.test(line) && !/^\t/.test(lines[index + 1] ?? ''),
  )
  return (worded.length === 0 ? lines : worded).map(messageOf).slice(-count)
}

/** logrus's text format: `time="…" level=info msg="…"`. */
function messageOf(line: string): string {
  const quoted = /^time=.* msg=("(?:[^"\\]|\\.)*")/.exec(line)?.[1]
  if (quoted === undefined) return /^time=.* msg=(\S+)/.exec(line)?.[1] ?? line
  try {
    return JSON.parse(quoted) as string
  } catch {
    return quoted.slice(1, -1)
  }
}

/**
 * True when the log of a failed start says that a database of BuildKit's is broken. It replaces cache.db and
 * history.db itself; at the worker's own it gives up (worker/runc/runc.go) or bbolt panics in mid-read.
 */
export function saysCorrupt(log: string): boolean {
  if (/^buildkitd: .*(invalid database|checksum error|version mismatch|freelist)/m.test(log))
    return true
  return /^(panic|fatal error|unexpected fault address)\b/m.test(log) && log.includes('bbolt')
}
