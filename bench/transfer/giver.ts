/**
 * The giving side of the transfer measurement, a process of its own: Hearth's direct road, node:https and raw
 * TCP, all over the same files. Standard input is a line of JSON with what to give; the first line of standard
 * output says where.
 */
import { once } from 'node:events'
import { createReadStream } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import https from 'node:https'
import net, { type AddressInfo } from 'node:net'
import path from 'node:path'
import { createInterface } from 'node:readline'
import pino from 'pino'
import { digestHex } from '../../core/digest.ts'
import type { TlsIdentity } from '../../core/grpc-server.ts'
import { createExchange } from '../../mesh/exchange/index.ts'

export interface GiverTask {
  /** Files named by the hex digits of their digests. */
  folder: string
  identity: TlsIdentity
  /** Who will ask. */
  member: string
  uploadBytesPerS?: number
}

export interface GiverPorts {
  road: number
  https: number
  tcp: number
}

async function give(task: GiverTask): Promise<GiverPorts> {
  const { folder, identity, member, uploadBytesPerS } = task
  const sizes = new Map<string, number>()
  const exchange = await createExchange(
    {
      blobs: {
        find(_scope, digest) {
          const size = sizes.get(digestHex(digest))
          return size === undefined
            ? undefined
            : { file: path.join(folder, digestHex(digest)), size }
        },
      },
      log: pino({ level: 'silent' }),
    },
    {
      host: '127.0.0.1',
      port: 0,
      identity,
      ...(uploadBytesPerS === undefined ? {} : { uploadBytesPerS }),
    },
  )
  exchange.setMembers([member])
  for (const name of await readdir(folder)) {
    sizes.set(name, (await stat(path.join(folder, name))).size)
  }

  const fileOf = (name: string): string => path.join(folder, path.basename(name))
  const web = https
    .createServer(
      { cert: identity.certificatePem, key: identity.privateKeyPem },
      (request, reply) => {
        createReadStream(fileOf(request.url ?? '')).pipe(reply)
      },
    )
    .listen(0, '127.0.0.1')
  const raw = net
    .createServer((socket) => {
      socket.on('error', () => {})
      socket.once('data', (name: Buffer) => createReadStream(fileOf(`${name}`.trim())).pipe(socket))
    })
    .listen(0, '127.0.0.1')
  await Promise.all([web, raw].map((server) => server.listening || once(server, 'listening')))
  const portOf = (server: net.Server): number => (server.address() as AddressInfo).port
  return { road: exchange.port, https: portOf(web), tcp: portOf(raw) }
}

createInterface({ input: process.stdin }).once('line', (line) => {
  void give(JSON.parse(line) as GiverTask).then((ports) => {
    process.stdout.write(`${JSON.stringify(ports)}\n`)
  })
})
// Whoever has started us ends us by closing the line.
process.stdin.on('end', () => process.exit())
