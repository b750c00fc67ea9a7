/** A listener inside a network namespace, for this process to serve. */
import { spawn } from 'node:child_process'
import { Server } from 'node:net'
import { HearthError } from '../../../core/errors.ts'
import { systemPath } from './system-command.ts'

/**
 * A process cannot enter a namespace for a moment, but a socket stays in the one it was made in: a child
 * enters, opens it and hands it over. As text and not a file of its own, so that Node starts it without
 * looking for types to strip: 80 ms instead of 150, measured.
 */
const program = `
const [host, port] = process.argv.slice(-2)
const server = require('node:net').createServer()
server.on('error', (error) => { console.error(error.message); process.exit(1) })
server.listen({ host, port: Number(port) }, () => {
  process.send('listening', server, undefined, () => process.exit(0))
})
`

/**
 * @param place.pid a process in the namespace.
 * @throws HearthError `environment`, `deadline`, `cancelled`.
 */
export async function listenInside(
  place: { pid: number; host: string; port: number },
  options: { limitMs: number; signal: AbortSignal },
): Promise<Server> {
  const { promise, resolve, reject } = Promise.withResolvers<Server>()
  const child = spawn(
    'nsenter',
    [
      `--net=/proc/${place.pid}/ns/net`,
      ...['--', process.execPath, '--eval', program, '--', place.host, String(place.port)],
    ],
    { env: { PATH: systemPath() }, stdio: ['ignore', 'ignore', 'pipe', 'ipc'] },
  )
  let complaint = ''
  child.stderr?.on('data', (bytes: Buffer) => {
    complaint += bytes.toString()
  })
  const where = `${place.host}:${place.port} inside a network namespace`
  const refuse = (why: string, cause?: Error): void =>
    reject(new HearthError('environment', `cannot listen on ${where}: ${why}`, { cause }))
  child.on('error', (error) => refuse(error.message, error))
  child.on('message', (_message, handle) => {
    if (handle instanceof Server) resolve(handle)
    else refuse('no socket came')
  })
  child.on('close', () => refuse(complaint.trim() || 'the child ended'))
  const limit = setTimeout(() => {
    reject(new HearthError('deadline', `no listener on ${where} within ${options.limitMs} ms`))
  }, options.limitMs)
  const cancel = (): void => reject(new HearthError('cancelled', 'no longer listening'))
  options.signal.addEventListener('abort', cancel, { once: true })
  if (options.signal.aborted) cancel()
  try {
    return await promise
  } catch (error) {
    child.kill('SIGKILL')
    throw error
  } finally {
    clearTimeout(limit)
    options.signal.removeEventListener('abort', cancel)
  }
}
