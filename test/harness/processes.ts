/** Child processes that are ready when they say so, keep their last words, and never outlive their parent. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

export interface ManagedProcess extends AsyncDisposable {
  readonly pid: number
  /** The end of both outputs, at most some 200 KB. */
  output(): string
  readonly ended: Promise<ProcessEnd>
  running(): boolean
  /** Asks it to end and waits; kills it when it has not ended after the limit. */
  stop(options?: { signal?: NodeJS.Signals; limitMs?: number }): Promise<ProcessEnd>
}

export interface ProcessEnd {
  code: number | null
  signal: NodeJS.Signals | null
}

export interface ProcessStart {
  command: string
  args: readonly string[]
  env?: NodeJS.ProcessEnv
  cwd?: string
  /** Asked again and again until true. Absent: ready as soon as it is started. */
  ready?: (process: { output(): string }) => boolean | Promise<boolean>
  readyWithinMs?: number
}

const outputCharactersMax = 200_000
const probeEveryMs = 20

/** @throws Error with the last output when it ends or the time is over before it is ready. */
export async function startProcess(start: ProcessStart): Promise<ManagedProcess> {
  // The kernel ends the child when this process dies, however it dies.
  const args = ['--pdeathsig', 'TERM', '--', start.command, ...start.args]
  const child = spawn('setpriv', args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: start.env ?? process.env,
    ...(start.cwd === undefined ? {} : { cwd: start.cwd }),
  })
  let output = ''
  const keep = (chunk: Buffer) => {
    output = (output + chunk.toString()).slice(-outputCharactersMax)
  }
  child.stdout.on('data', keep)
  child.stderr.on('data', keep)
  await once(child, 'spawn')
  if (child.pid === undefined) throw new Error(`${start.command} has no process id`)

  let end: ProcessEnd | undefined
  const ended = new Promise<ProcessEnd>((resolve) => {
    child.once('close', (code, signal) => {
      end = { code, signal }
      resolve(end)
    })
  })

  const managed: ManagedProcess = {
    pid: child.pid,
    output: () => output,
    ended,
    running: () => end === undefined,
    async stop({ signal = 'SIGTERM', limitMs = 30_000 } = {}) {
      if (end !== undefined) return end
      child.kill(signal)
      const timer = setTimeout(() => child.kill('SIGKILL'), limitMs)
      const result = await ended
      clearTimeout(timer)
      return result
    },
    async [Symbol.asyncDispose]() {
      await managed.stop()
    },
  }

  const deadlineMs = performance.now() + (start.readyWithinMs ?? 30_000)
  while (start.ready !== undefined) {
    if (end !== undefined) {
      throw new Error(`${start.command} ended before it was ready:\n${output.slice(-4000)}`)
    }
    if (await start.ready(managed)) break
    if (performance.now() > deadlineMs) {
      await managed.stop({ limitMs: 5000 })
      throw new Error(`${start.command} was not ready in time:\n${output.slice(-4000)}`)
    }
    await delay(probeEveryMs)
  }
  return managed
}

/** For `ready`: something answers HTTP there. */
export async function answersHttp(url: string): Promise<boolean> {
  try {
    await (await fetch(url)).body?.cancel()
    return true
  } catch {
    return false
  }
}

/** For `ready`: something listens there, on this machine. */
export async function acceptsConnections(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}
