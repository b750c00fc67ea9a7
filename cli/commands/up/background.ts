/** Starts `hearth up --foreground` as a process of its own and waits until it is ready. */
import { type ChildProcess, spawn } from 'node:child_process'
import { open, readFile, rename, stat } from 'node:fs/promises'
import path from 'node:path'
import { type ErrorCode, HearthError } from '../../../core/errors.ts'
import { mib } from '../../../core/limits.ts'
import { daemonNodeFlags } from '../../daemon/node-flags.ts'
import type { Serving } from './serve.ts'

/** What the background process tells the one that started it. */
export type ReadyMessage =
  | { type: 'ready'; serving: Serving }
  | { type: 'failed'; code: ErrorCode; message: string; hint: string | undefined }

// Generous: a coordinator and node with a large store repair themselves first.
const readyMs = 120_000
const logBytesMax = 10 * mib
const logLinesShown = 5

/**
 * @param options.log the file that its log is added to.
 * @throws HearthError as the background process failed.
 */
export async function startInBackground(
  args: readonly string[],
  options: { folder: string; log: string; env: NodeJS.ProcessEnv; signal: AbortSignal },
): Promise<Serving> {
  await rotateLog(options.log)
  await using log = await open(options.log, 'a', 0o600)
  const child = spawn(process.execPath, [...daemonNodeFlags, mainFile(), ...args], {
    cwd: options.folder,
    env: options.env,
    detached: true,
    stdio: ['ignore', log.fd, log.fd, 'ipc'],
  })
  try {
    const serving = await waitUntilReady(child, options)
    child.disconnect()
    child.unref()
    return serving
  } catch (error) {
    child.kill('SIGTERM')
    throw error
  }
}

/** Tells the process that started this one, if it still listens. */
export function tellStarter(message: ReadyMessage): void {
  if (process.send === undefined || !process.connected) return
  process.send(message, () => {
    if (process.connected) process.disconnect()
  })
}

function waitUntilReady(
  child: ChildProcess,
  options: { log: string; signal: AbortSignal },
): Promise<Serving> {
  const { promise, resolve, reject } = Promise.withResolvers<Serving>()
  const timer = setTimeout(() => {
    const seconds = readyMs / 1000
    reject(
      new HearthError('deadline', `Hearth was not ready within ${seconds} s`, {
        hint: `its log is ${options.log}`,
      }),
    )
  }, readyMs)
  const onAbort = () => reject(options.signal.reason)
  options.signal.addEventListener('abort', onAbort, { once: true })
  child.on('error', reject)
  child.on('message', (message: ReadyMessage) => {
    if (message.type === 'ready') resolve(message.serving)
    else {
      const { code, hint } = message
      reject(new HearthError(code, message.message, hint === undefined ? {} : { hint }))
    }
  })
  child.on('exit', (code, signal) => {
    readLastLines(options.log).then((lines) => {
      const message = `Hearth ended while it started (${signal ?? `exit code ${code}`})`
      reject(
        new HearthError('internal', message, {
          hint: [`from ${options.log}:`, ...lines].join('\n'),
        }),
      )
    }, reject)
  })
  return promise.finally(() => {
    clearTimeout(timer)
    options.signal.removeEventListener('abort', onAbort)
    child.removeAllListeners()
  })
}

async function readLastLines(file: string): Promise<string[]> {
  const text = await readFile(file, 'utf8')
  return text.trimEnd().split('\n').slice(-logLinesShown)
}

/** Keeps one earlier log, so that the folder never fills with them. */
async function rotateLog(file: string): Promise<void> {
  const size = await stat(file).then(
    (found) => found.size,
    () => 0,
  )
  if (size > logBytesMax) await rename(file, `${file}.1`)
}

/** The program itself: main.ts in a checkout, main.js when published. */
function mainFile(): string {
  return path.join(import.meta.dirname, '../..', `main${path.extname(import.meta.filename)}`)
}
