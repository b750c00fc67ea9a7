/**
 * A program that sees one folder and the machine's programs, nothing else: whatever an archive or a mount holds, links
 * and `..` lead nowhere. It is in a mount and a network namespace of its own, has no device and can make none.
 */
import { spawn } from 'node:child_process'
import type { Readable } from 'node:stream'
import { HearthError } from '../../../core/errors.ts'
import { systemPath } from '../daemon/index.ts'

/**
 * $1 a folder to build the jail on, $2 the folder that becomes /content, then the program and its arguments.
 * Nothing is left to clean up: the mounts end with the namespace.
 */
const script = `
jail=$1 content=$2
shift 2
mount -t tmpfs -o size=64k,mode=755 jail "$jail" || exit 125
for name in usr bin lib lib64; do
  if [ -L "/$name" ]; then
    ln -s "$(readlink "/$name")" "$jail/$name"
  elif [ -d "/$name" ]; then
    mkdir "$jail/$name" && mount --bind "/$name" "$jail/$name" &&
      mount -o remount,bind,ro,nosuid,nodev "$jail/$name" || exit 125
  fi
done
mkdir "$jail/content" && mount --bind "$content" "$jail/content" &&
  mount -o remount,bind,nosuid,nodev "$jail/content" || exit 125
exec chroot "$jail" "$@"
`

/** What tar needs to give files their owners, modes and attributes; no more. */
const capabilities = '-all,+chown,+dac_override,+fowner,+fsetid,+setfcap'

export interface JailedProgram {
  readonly stdout: Readable
  /**
   * Resolves with what it said on standard error.
   * @throws HearthError `internal` with that when it fails, `cancelled`.
   */
  readonly done: Promise<string>
}

/**
 * Runs a command line of the shell.
 * @param place.jail an empty folder that exists; any number of programs may use it at the same time.
 * @param place.content the folder that the program sees as its working folder.
 * @param place.namespaceOf a process in whose mount namespace the folders are. Default: ours.
 * @param options.input what it reads: a file that was opened for it, or bytes.
 */
export function runInJail(
  place: { jail: string; content: string; namespaceOf?: number | undefined },
  command: string,
  options: { input: number | Buffer; signal: AbortSignal },
): JailedProgram {
  const { jail, content, namespaceOf } = place
  const { input } = options
  const confined = ['unshare', '--mount', '--propagation=private', '--net', '--']
  const enter =
    namespaceOf === undefined ? [] : ['nsenter', `--mount=/proc/${namespaceOf}/ns/mnt`, '--']
  const inside = [
    'setpriv',
    `--bounding-set=${capabilities}`,
    '--',
    'sh',
    '-c',
    `cd /content && ${command}`,
  ]
  const [program = 'unshare', ...args] = [
    ...enter,
    ...confined,
    ...['sh', '-c', script, 'jail', jail, content],
    ...inside,
  ]
  const child = spawn(program, args, {
    env: { PATH: systemPath(), LC_ALL: 'C', TZ: 'UTC' },
    stdio: [typeof input === 'number' ? input : 'pipe', 'pipe', 'pipe'],
    detached: true,
  })
  let complaint = ''
  child.stderr?.on('data', (part: Buffer) => {
    if (complaint.length < 2_000) complaint += part.toString()
  })
  // All of its group: a pipeline's other programs would go on with what the first one left.
  const stop = (): void => {
    if (child.pid === undefined || child.exitCode !== null) return
    try {
      process.kill(-child.pid, 'SIGKILL')
    } catch {
      // It has ended by itself.
    }
  }
  options.signal.addEventListener('abort', stop, { once: true })
  if (options.signal.aborted) stop()
  const done = new Promise<string>((resolve, reject) => {
    child.on('error', (cause) =>
      reject(new HearthError('environment', `cannot run ${program}`, { cause })),
    )
    child.on('close', (exitCode) => {
      options.signal.removeEventListener('abort', stop)
      if (options.signal.aborted) reject(new HearthError('cancelled', 'the archiver was stopped'))
      else if (exitCode === 0) resolve(complaint)
      else
        reject(new HearthError('internal', `the archiver failed: ${complaint.trim() || exitCode}`))
    })
  })
  done.catch(() => {}) // Whoever waits for it sees it.
  child.stdin?.on('error', () => {}) // Its exit code says why.
  if (typeof input !== 'number') child.stdin?.end(input)
  if (child.stdout === null) throw new Error('a program without standard output')
  return { stdout: child.stdout, done }
}
