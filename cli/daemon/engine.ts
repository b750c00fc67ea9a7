/** A container engine on this machine, for where Hearth cannot run BuildKit itself. */
import { execFile, spawn } from 'node:child_process'
import { promisify } from 'node:util'
import { HearthError } from '../../core/errors.ts'
import { findOnPath } from '../doctor/programs.ts'

export interface Engine {
  readonly name: 'docker' | 'podman'
  readonly program: string
}

/** What tells whether its containers can be really privileged: a rootless engine's cannot. */
const rootlessQuery = {
  docker: ['info', '--format', '{{json .SecurityOptions}}'],
  podman: ['info', '--format', '{{.Host.Security.Rootless}}'],
} as const

const answerMs = 15_000

/** The first engine that answers and is not rootless. */
export async function findEngine(
  env: NodeJS.ProcessEnv,
  options: { signal: AbortSignal },
): Promise<Engine | undefined> {
  for (const name of ['docker', 'podman'] as const) {
    const program = await findOnPath(name, env)
    if (program === undefined) continue
    const engine = { name, program }
    try {
      const said = await askEngine(engine, rootlessQuery[name], { ...options, timeoutMs: answerMs })
      if (!/rootless|true/.test(said)) return engine
    } catch (error) {
      if (options.signal.aborted) throw error
      // Installed and not running: as good as none.
    }
  }
  return undefined
}

/**
 * Runs one command of the engine.
 * @returns its standard output.
 * @throws HearthError `environment` with the last line it said.
 */
export async function askEngine(
  engine: Engine,
  args: readonly string[],
  options: { signal: AbortSignal; timeoutMs: number },
): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)(engine.program, args, {
      encoding: 'utf8',
      signal: options.signal,
      timeout: options.timeoutMs,
    })
    return stdout
  } catch (error) {
    options.signal.throwIfAborted()
    const { stderr = '' } = error as { stderr?: string }
    const last = stderr.trim().split('\n').at(-1) || 'it does not answer'
    throw new HearthError('environment', `${engine.name} ${args[0]} failed: ${last}`, {
      hint: `the whole command was: ${engine.name} ${args.join(' ')}`,
      cause: error,
    })
  }
}

/** Runs one command whose progress people want to see: all it says goes to standard error. */
export function watchEngine(
  engine: Engine,
  args: readonly string[],
  options: { signal: AbortSignal },
): Promise<void> {
  const child = spawn(engine.program, args, {
    stdio: ['ignore', 2, 'inherit'],
    signal: options.signal,
  })
  return new Promise((resolve, reject) => {
    child.once('error', (error) => reject(options.signal.aborted ? options.signal.reason : error))
    child.once('close', (code) => {
      if (code === 0) return resolve()
      const message = `${engine.name} ${args[0]} failed with exit code ${code}`
      reject(new HearthError('environment', message, { hint: 'see above' }))
    })
  })
}

/**
 * Follows a container's log until a line of its standard output completes what `ready` accepts.
 * @throws HearthError `environment` with what the container last said, when it ends before.
 */
export function followUntil(
  engine: Engine,
  container: string,
  ready: (stdout: string) => boolean,
  options: { signal: AbortSignal },
): Promise<void> {
  const child = spawn(engine.program, ['logs', '--follow', container], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const abort = () => child.kill('SIGTERM')
  options.signal.addEventListener('abort', abort, { once: true })
  let stdout = ''
  let stderr = ''
  return new Promise<void>((resolve, reject) => {
    child.once('error', reject)
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
    })
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
      if (ready(stdout)) resolve()
    })
    child.once('close', () =>
      reject(options.signal.aborted ? options.signal.reason : ended(stderr)),
    )
  }).finally(() => {
    options.signal.removeEventListener('abort', abort)
    child.kill('SIGTERM')
  })
}

/** The error that Hearth printed in the container, or else the last lines of it. */
function ended(stderr: string): HearthError {
  const lines = stderr.trim().split('\n')
  const index = lines.findLastIndex((line) => line.startsWith('hearth: '))
  const message = index === -1 ? 'Hearth ended while it started' : (lines[index] ?? '').slice(8)
  const hint = index === -1 ? lines.slice(-5) : lines.slice(index + 1)
  return new HearthError('environment', message, {
    hint: hint.map((line) => line.trim()).join('\n') || 'its container said nothing more',
  })
}
