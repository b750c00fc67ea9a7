/** The other ways to bring a file from one process to another, each to a file and unhashed. */
import { createWriteStream } from 'node:fs'
import https from 'node:https'
import net from 'node:net'
import { pipeline } from 'node:stream/promises'
import { runTimed } from '../../test/harness/index.ts'

export async function takeByHttps(port: number, name: string, file: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<NodeJS.ReadableStream>()
  https
    .get({ host: '127.0.0.1', port, path: `/${name}`, rejectUnauthorized: false }, resolve)
    .on('error', reject)
  await pipeline(await promise, createWriteStream(file))
}

export async function takeByTcp(port: number, name: string, file: string): Promise<void> {
  const socket = net.connect(port, '127.0.0.1')
  socket.write(`${name}\n`)
  await pipeline(socket, createWriteStream(file))
}

export async function takeByCurl(url: string, file: string): Promise<void> {
  const result = await runTimed('curl', ['--silent', '--fail', '--location', '-o', file, url])
  if (result.exitCode !== 0) throw new Error(`curl ${url}: ${result.stderr}`)
}
