/** What is in a folder, by find(1): quicker than one call of ours per file, and it follows no link. */
import { spawn } from 'node:child_process'
import { HearthError } from '../../../core/errors.ts'
import { mib } from '../../../core/limits.ts'
import { systemPath } from '../daemon/index.ts'
import type { MountEntry } from './entries.ts'

/** An entry and what tells whether anybody has touched it since. */
export interface WalkedEntry extends MountEntry {
  readonly inode: string
  /** As `modified`: when content or attributes last changed, by the kernel's clock, and nobody can set it. */
  readonly changed: string
}

export interface Walk {
  readonly entries: readonly WalkedEntry[]
  /** Sockets, pipes and devices, which mean nothing elsewhere. */
  readonly others: number
}

const fields = ['%y', '%m', '%U', '%G', '%s', '%T@', '%n', '%i', '%C@', '%P', '%l'] as const
const letters: Readonly<Record<string, MountEntry['type']>> = { f: 'file', d: 'folder', l: 'link' }
const outputBytesMax = 512 * mib

/**
 * @throws HearthError `not-found` when the folder or something in it went away meanwhile, `exhausted` when there are
 *   too many files.
 */
export async function walk(folder: string, { signal }: { signal: AbortSignal }): Promise<Walk> {
  const args = [folder, '-xdev', '-printf', fields.map((field) => `${field}\\0`).join('')]
  const child = spawn('find', args, {
    env: { PATH: systemPath(), LC_ALL: 'C' },
    stdio: ['ignore', 'pipe', 'pipe'],
    signal,
  })
  const parts: Buffer[] = []
  let bytes = 0
  let complaint = ''
  child.stdout.on('data', (part: Buffer) => {
    bytes += part.length
    if (bytes <= outputBytesMax) parts.push(part)
    else child.kill('SIGKILL')
  })
  child.stderr.on('data', (part: Buffer) => {
    complaint ||= part.toString().trim().slice(0, 500)
  })
  const exitCode = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject)
    child.on('close', resolve)
  }).catch((cause: unknown) => {
    if (signal.aborted) throw new HearthError('cancelled', 'the walk was cancelled')
    throw new HearthError('environment', 'find cannot be run', { cause })
  })
  if (bytes > outputBytesMax) throw new HearthError('exhausted', `${folder} has too many files`)
  if (exitCode !== 0) throw new HearthError('not-found', `${folder} changes: ${complaint}`)
  return parse(Buffer.concat(parts).toString('latin1'))
}

function parse(text: string): Walk {
  const values = text.split('\0')
  const entries: WalkedEntry[] = []
  let others = 0
  for (let at = 0; at + fields.length < values.length; at += fields.length) {
    const of = (index: number): string => values[at + index] ?? ''
    const type = letters[of(0)]
    if (type === undefined) {
      others += 1
      continue
    }
    entries.push({
      path: of(9),
      type,
      mode: of(1),
      uid: Number(of(2)),
      gid: Number(of(3)),
      size: type === 'folder' ? 0 : Number(of(4)),
      modified: of(5),
      target: of(10),
      names: type === 'folder' ? 1 : Number(of(6)),
      inode: of(7),
      changed: of(8),
    })
  }
  entries.sort((a, b) => (a.path < b.path ? -1 : 1))
  return { entries, others }
}

/** Whether nobody has touched anything between two walks of one folder. */
export function isUntouched(before: Walk, after: Walk): boolean {
  return (
    before.entries.length === after.entries.length &&
    before.entries.every((entry, index) => {
      const again = after.entries[index]
      return (
        again !== undefined &&
        again.path === entry.path &&
        again.inode === entry.inode &&
        again.changed === entry.changed
      )
    })
  )
}
