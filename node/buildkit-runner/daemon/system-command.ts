/** Runs the machine's own small programs (`ip`, `iptables-save`, `du`) to their end. */
import { spawn } from 'node:child_process'
import { HearthError } from '../../../core/errors.ts'

/** Programs of the administrator are often missing from the PATH of a service. */
export function searchPath(env: NodeJS.ProcessEnv = process.env): string {
  return [env.PATH || '/usr/local/bin:/usr/bin:/bin', '/usr/local/sbin', '/usr/sbin', '/sbin'].join(
    ':',
  )
}

/**
 * The machine's own folders first: an `nft` in some project's `node_modules/.bin` is something else, and says
 * nothing when it is handed rules.
 */
export function systemPath(env: NodeJS.ProcessEnv = process.env): string {
  return `/usr/sbin:/sbin:/usr/bin:/bin:${searchPath(env)}`
}

export interface CommandResult {
  readonly exitCode: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface CommandOptions {
  /** Written to standard input. */
  input?: string
  /** Default 30 s. */
  limitMs?: number
  signal?: AbortSignal
}

/**
 * Resolves whatever the exit code.
 * @throws HearthError `environment` when the program cannot be started, `deadline`, `cancelled`.
 */
export async function runCommand(
  program: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const { promise, resolve, reject } = Promise.withResolvers<CommandResult>()
  const limitMs = options.limitMs ?? 30_000
  const child = spawn(program, args, {
    env: { PATH: systemPath(), LC_ALL: 'C' },
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  const stdout: Buffer[] = []
  const stderr: Buffer[] = []
  child.stdout.on('data', (bytes: Buffer) => stdout.push(bytes))
  child.stderr.on('data', (bytes: Buffer) => stderr.push(bytes))
  // A program that ends without reading its input says why by its exit code.
  child.stdin.on('error', () => {})
  child.stdin.end(options.input ?? '')
  const giveUp = (error: HearthError): void => {
    child.kill('SIGKILL')
    reject(error)
  }
  const limit = setTimeout(() => {
    giveUp(new HearthError('deadline', `${program} did not end within ${limitMs} ms`))
  }, limitMs)
  const cancel = (): void => giveUp(new HearthError('cancelled', `${program} was cancelled`))
  options.signal?.addEventListener('abort', cancel, { once: true })
  if (options.signal?.aborted) cancel()
  const finish = (): void => {
    clearTimeout(limit)
    options.signal?.removeEventListener('abort', cancel)
  }
  child.on('error', (error) => {
    finish()
    reject(
      new HearthError('environment', `cannot run ${program}: ${error.message}`, { cause: error }),
    )
  })
  child.on('close', (exitCode) => {
    finish()
    resolve({
      exitCode,
      stdout: Buffer.concat(stdout).toString(),
      stderr: Buffer.concat(stderr).toString().trim(),
    })
  })
  return promise
}

/** @throws HearthError `environment` when the program fails; see `runCommand` for the rest. */
export async function commandOutput(
  program: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<string> {
  const result = await runCommand(program, args, options)
  if (result.exitCode === 0) return result.stdout
  throw new HearthError(
    'environment',
    `${program} ${args.join(' ')} failed: ${result.stderr || `exit code ${result.exitCode}`}`,
  )
}
