import { spawn } from 'node:child_process'

export interface CommandResult {
  /** -1 when a signal ended it. */
  exitCode: number
  seconds: number
  stdout: string
  stderr: string
}

export interface RunOptions {
  env?: NodeJS.ProcessEnv
  cwd?: string
  /** Kills it and throws. */
  signal?: AbortSignal
  /** Sends it SIGINT, as Ctrl-C does, and goes on waiting for its end. */
  interrupt?: AbortSignal
}

/**
 * Runs a command to its end, whatever that is, and takes the time from its start to its end.
 * @throws Error only when it cannot be started.
 */
export function runTimed(
  command: string,
  args: readonly string[],
  { interrupt, ...options }: RunOptions = {},
): Promise<CommandResult> {
  return new Promise((resolve, reject) => {
    const startedAtMs = performance.now()
    const child = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] })
    const sendInterrupt = (): boolean => child.kill('SIGINT')
    interrupt?.addEventListener('abort', sendInterrupt, { once: true })
    const stdout: Buffer[] = []
    const stderr: Buffer[] = []
    child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk))
    child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk))
    child.once('error', reject)
    child.once('close', (code) => {
      interrupt?.removeEventListener('abort', sendInterrupt)
      resolve({
        exitCode: code ?? -1,
        seconds: (performance.now() - startedAtMs) / 1000,
        stdout: Buffer.concat(stdout).toString(),
        stderr: Buffer.concat(stderr).toString(),
      })
    })
  })
}
