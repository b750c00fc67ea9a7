/**
 * One lock for all Hearth instances of a machine. The kernel holds it for a child process (`flock`) whose
 * standard input is ours, so it is free again when we end in whatever way.
 */
import { spawn } from 'node:child_process'
import { HearthError } from '../../../core/errors.ts'
import { searchPath } from './system-command.ts'

/**
 * @param file created if it is not there.
 * @throws HearthError `deadline` when another instance has kept the lock for `limitMs` (60 s), `environment`
 *   when it cannot be had at all.
 */
export async function lockMachine(
  file: string,
  options: { limitMs?: number } = {},
): Promise<AsyncDisposable> {
  const limitMs = options.limitMs ?? 60_000
  const child = spawn(
    'flock',
    ['--exclusive', '--timeout', String(limitMs / 1000), '--conflict-exit-code', '75', file].concat(
      ['sh', '-c', 'echo locked; read -r _'],
    ),
    { env: { PATH: searchPath() }, stdio: ['pipe', 'pipe', 'pipe'] },
  )
  child.stdin.on('error', () => {})
  let complaint = ''
  child.stderr.on('data', (bytes: Buffer) => {
    complaint += bytes.toString()
  })
  const ended = new Promise<void>((resolve) => {
    child.on('close', () => resolve())
    child.on('error', () => resolve())
  })
  await new Promise<void>((resolve, reject) => {
    child.stdout.once('data', () => resolve())
    child.on('error', (error) => {
      reject(new HearthError('environment', `cannot run flock: ${error.message}`, { cause: error }))
    })
    child.on('close', (exitCode) => {
      reject(
        exitCode === 75
          ? new HearthError('deadline', `another Hearth holds ${file} for too long`, {
              hint: 'look for a Hearth that hangs, and end it',
            })
          : new HearthError('environment', `cannot lock ${file}: ${complaint.trim()}`),
      )
    })
  })
  return {
    [Symbol.asyncDispose]: () => {
      child.stdin.end()
      return ended
    },
  }
}
