/**
 * Where the content of a mount is on disk, whatever form BuildKit has given it (T, on v0.34.2): a snapshot's folder as
 * it is, or a folder of an overlay over it where the mount begins as one with another owner or mode.
 */
import { readFile } from 'node:fs/promises'
import path from 'node:path'

export interface MountPlace {
  /** What tells the mount from others of this BuildKit: the path of its snapshot's folder. */
  readonly snapshot: string
  /** The folder that the step sees, on disk. Absent there, the mount is empty. */
  readonly content: string
  /** Of a folder of an overlay: where it is in the daemon's mount namespace. On disk it must not be written to. */
  readonly mountPoint: string | undefined
}

const snapshotPattern = /\/snapshots\/\d+\/fs$/

/**
 * @param source as the bundle names it.
 * @param pid a process in the daemon's mount namespace.
 * @returns undefined for what is no cache mount of a form that is known.
 */
export async function locateMount(source: string, pid: number): Promise<MountPlace | undefined> {
  if (snapshotPattern.test(source)) {
    return { snapshot: source, content: source, mountPoint: undefined }
  }
  const table = await readFile(`/proc/${pid}/mountinfo`, 'utf8')
  // The last one lies above those before it.
  const mount = table
    .trimEnd()
    .split('\n')
    .map(parseLine)
    .findLast((each) => each?.mountPoint === source)
  if (mount?.type !== 'overlay' || mount.upper === undefined) return undefined
  if (!snapshotPattern.test(mount.upper)) return undefined
  const { upper, root, mountPoint } = mount
  return { snapshot: upper, content: path.join(upper, root), mountPoint }
}

interface MountLine {
  readonly root: string
  readonly mountPoint: string
  readonly type: string
  readonly upper: string | undefined
}

/** proc_pid_mountinfo(5): id parent device root mountpoint options [optional…] - type source super-options. */
function parseLine(line: string): MountLine | undefined {
  const [before = '', after = ''] = line.split(' - ')
  const [, , , root, mountPoint] = before.split(' ')
  const [type, , options = ''] = after.split(' ')
  if (root === undefined || mountPoint === undefined || type === undefined) return undefined
  const upper = /(?:^|,)upperdir=([^,]*)/.exec(options)?.[1]
  return {
    root: withoutEscapes(root),
    mountPoint: withoutEscapes(mountPoint),
    type,
    upper: upper && withoutEscapes(upper),
  }
}

/** Spaces and the like are octal there. */
function withoutEscapes(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  )
}
