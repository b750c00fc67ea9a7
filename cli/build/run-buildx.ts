/** Runs buildx in the user's terminal: its input, output and progress are untouched. */
import { spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import os from 'node:os'
import { toHearthError } from '../../core/errors.ts'

export interface BuildxEnd {
  readonly exitCode: number
  /** Somebody asked it to stop. */
  readonly cancelled: boolean
}

export interface BuildxRun {
  /** The executable: buildx itself or its Docker plugin. */
  readonly program: string
  readonly args: readonly string[]
  readonly env: NodeJS.ProcessEnv
  readonly folder: string
  /** Where its standard output goes: 2 keeps ours free for a JSON document. */
  readonly outputTo: 1 | 2
}

// buildx exits with this when its context is cancelled (cmd/buildx/main.go).
const cancelledCode = 130

/**
 * Runs it to its end. Signals to us are passed on, and we outlive them: what they do to the build is
 * buildx's business.
 * @throws HearthError when it cannot be started.
 */
export function runBuildx(run: BuildxRun): Promise<BuildxEnd> {
  const child = spawn(run.program, run.args, {
    cwd: run.folder,
    env: run.env,
    stdio: ['inherit', run.outputTo, 'inherit'],
  })
  let signalled = false
  const onInterrupt = () => {
    signalled = true
    // The terminal has sent Ctrl-C to buildx as well; twice would skip its orderly end.
    if (!hasTerminal()) child.kill('SIGINT')
  }
  const onTerminate = (signal: NodeJS.Signals) => {
    signalled = true
    child.kill(signal)
  }
  process.on('SIGINT', onInterrupt)
  process.on('SIGTERM', onTerminate)
  process.on('SIGHUP', onTerminate)
  const release = () => {
    process.off('SIGINT', onInterrupt)
    process.off('SIGTERM', onTerminate)
    process.off('SIGHUP', onTerminate)
  }
  return new Promise((resolve, reject) => {
    child.on('error', (error) => {
      release()
      reject(toHearthError(error, `start ${run.program}`))
    })
    child.on('close', (code, signal) => {
      release()
      const exitCode = code ?? 128 + (os.constants.signals[signal ?? 'SIGKILL'] ?? 0)
      const stopped = signal === 'SIGINT' || signal === 'SIGTERM' || exitCode === cancelledCode
      resolve({ exitCode, cancelled: exitCode !== 0 && (signalled || stopped) })
    })
  })
}

/** Whether Ctrl-C in a terminal reaches this process's whole group. */
function hasTerminal(): boolean {
  try {
    closeSync(openSync('/dev/tty', 'r'))
    return true
  } catch {
    return false
  }
}

/** The environment for a buildx that builds on Hearth's nodes. */
export function buildxEnvironment(
  env: NodeJS.ProcessEnv,
  buildxConfig: string | undefined,
): NodeJS.ProcessEnv {
  const own = { ...env }
  // Ours to keep; a bake file can read any variable of its environment.
  delete own.HEARTH_TOKEN
  // Would make a plugin binary think that docker runs it.
  delete own.DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND
  if (buildxConfig !== undefined) {
    own.BUILDX_CONFIG = buildxConfig
    delete own.BUILDX_BUILDER
  }
  return own
}
