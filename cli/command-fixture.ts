/** For tests: the `hearth` command as a process of its own, in a home of its own. */
import { spawn } from 'node:child_process'
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import type { Readable } from 'node:stream'
import type { ExecutionContext } from 'ava'

export interface Home {
  readonly folder: string
  readonly env: NodeJS.ProcessEnv
  /** Writes files below the home; returns the absolute path of the first. */
  write(files: Readonly<Record<string, string>>): Promise<string>
}

export interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface Running {
  readonly pid: number
  readonly ended: Promise<Ended>
  /** Resolves when standard error matches. */
  says(pattern: RegExp): Promise<void>
  /** Resolves with standard output once it matches. */
  prints(pattern: RegExp): Promise<string>
  kill(signal: NodeJS.Signals): void
}

const main = path.join(import.meta.dirname, 'launcher.cjs')

/** A folder with nothing configured in it; everything a command reads or writes by default lies there. */
export async function makeHome(t: ExecutionContext): Promise<Home> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'hearth-cli-'))
  t.teardown(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }))
  const kept = Object.entries(process.env).filter(
    ([name]) => !/^(HEARTH_|XDG_|DOCKER_|BUILDX_|NODE_V8_COVERAGE$)/.test(name),
  )
  const write = async (files: Readonly<Record<string, string>>) => {
    for (const [name, text] of Object.entries(files)) {
      await mkdir(path.dirname(path.join(folder, name)), { recursive: true })
      await writeFile(path.join(folder, name), text)
    }
    return path.join(folder, Object.keys(files)[0] ?? '')
  }
  return {
    folder,
    write,
    env: {
      ...Object.fromEntries(kept),
      HOME: folder,
      // One for all runs, or each would compile everything anew.
      XDG_CACHE_HOME: path.join(os.homedir(), '.cache'),
      HEARTH_DATA: path.join(folder, 'data'),
      HEARTH_CONFIG: path.join(folder, 'config.json'),
    },
  }
}

/** Starts `hearth ARGS`; what ends with the test is killed. */
export function startHearthCommand(
  t: ExecutionContext,
  home: Home,
  args: readonly string[],
  options: { env?: NodeJS.ProcessEnv; folder?: string; program?: readonly string[] } = {},
): Running {
  const [program = process.execPath, ...before] = options.program ?? [process.execPath, main]
  const child = spawn(program, [...before, ...args], {
    cwd: options.folder ?? home.folder,
    env: { ...home.env, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
    // Without the terminal of whoever runs the tests.
    detached: true,
  })
  t.teardown(() => child.kill('SIGKILL'))
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  const ended = new Promise<Ended>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => resolve({ code, stdout, stderr }))
  })
  return {
    pid: child.pid ?? 0,
    ended,
    kill: (signal) => child.kill(signal),
    says: async (pattern) => {
      await matching(child.stderr, () => stderr, pattern, ended)
    },
    prints: (pattern) => matching(child.stdout, () => stdout, pattern, ended),
  }
}

function matching(
  stream: Readable,
  text: () => string,
  pattern: RegExp,
  ended: Promise<Ended>,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const look = () => {
      if (pattern.test(text())) resolve(text())
    }
    stream.on('data', look)
    look()
    ended.then(
      ({ stderr }) => reject(new Error(`it ended without saying ${pattern}:\n${stderr}`)),
      reject,
    )
  })
}

export function runHearth(
  t: ExecutionContext,
  home: Home,
  args: readonly string[],
  options: { env?: NodeJS.ProcessEnv; folder?: string; program?: readonly string[] } = {},
): Promise<Ended> {
  return startHearthCommand(t, home, args, options).ended
}

export interface FakeBuildx {
  readonly env: NodeJS.ProcessEnv
  /** Of the last run: its arguments, its environment, a file of the folder it was given. */
  args(): Promise<string[]>
  environment(): Promise<Record<string, string>>
  privateFile(name: string): Promise<string>
  signals(): Promise<string[]>
}

/** A buildx that builds nothing: it records how it was called, and ends as told. */
export async function makeFakeBuildx(
  home: Home,
  options: { exitCode?: number; untilSignal?: boolean; builders?: string } = {},
): Promise<FakeBuildx> {
  const program = await home.write({
    'fake/buildx': script,
    'fake/builders': options.builders ?? '',
  })
  await chmod(program, 0o755)
  const record = path.dirname(program)
  const read = (name: string) => readFile(path.join(record, name), 'utf8')
  return {
    env: {
      HEARTH_BUILDX: program,
      FAKE_EXIT: `${options.exitCode ?? 0}`,
      FAKE_WAIT: options.untilSignal === true ? '1' : '',
    },
    args: async () => (await read('arguments')).trimEnd().split('\n'),
    environment: async () =>
      Object.fromEntries(
        (await read('environment'))
          .split('\n')
          .map((line) => line.split(/=(.*)/s).slice(0, 2))
          .filter((pair): pair is [string, string] => pair.length === 2),
      ),
    privateFile: (name) => read(`private/${name}`),
    signals: async () => (await read('signals')).trimEnd().split('\n'),
  }
}

const script = `#!/bin/sh
record=$(dirname "$0")
if [ "$1" = ls ]; then cat "$record/builders"; exit; fi
case " $* " in *" --help "*) echo "  -n, --newer string   of a newer buildx"; exit;; esac
printf '%s\\n' "$@" >"$record/arguments"
env >"$record/environment"
rm -rf "$record/private"
if [ -n "$BUILDX_CONFIG" ]; then
  cp -r "$(dirname "$BUILDX_CONFIG")" "$record/private"
  stat -c '%a %n' "$(dirname "$BUILDX_CONFIG")"/* >"$record/private/modes"
fi
echo to-output
if [ -n "$FAKE_WAIT" ]; then
  trap 'echo INT >>"$record/signals"; exit 130' INT
  trap 'echo TERM >>"$record/signals"; exit 130' TERM
  echo waiting >&2
  while :; do sleep 0.02; done
fi
exit "$FAKE_EXIT"
`
