/** What lies between two peers: passes bytes on until it is told to stop, and then says nothing more, as a cut cable. */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import type { ExecutionContext } from 'ava'

export interface Wire {
  readonly port: number
  /** Resolves when so many bytes have come through towards whoever has connected, all connections together. */
  passed(bytes: number): Promise<void>
  /** From now on nothing passes in either direction; connections stay open. */
  cut(): void
}

/** @param options.bytesMax of the giving side; after them it cuts itself. */
export async function createWire(
  t: ExecutionContext,
  to: number,
  options: { bytesMax?: number } = {},
): Promise<Wire> {
  const { bytesMax = Number.POSITIVE_INFINITY } = options
  const sockets = new Set<Socket>()
  const waiting = new Set<{ bytes: number; resolve: () => void }>()
  let count = 0
  let isCut = false

  function cut(): void {
    isCut = true
    for (const socket of sockets) socket.pause()
  }

  function counted(bytes: number): void {
    count += bytes
    for (const each of waiting) if (count >= each.bytes) each.resolve()
    if (count >= bytesMax) cut()
  }

  function pass(from: Socket, into: Socket, onBytes: (bytes: number) => void): void {
    from.on('error', () => {}).on('close', () => into.destroy())
    from.on('data', (bytes: Buffer) => {
      if (isCut) return
      onBytes(bytes.length)
      if (!isCut && !into.write(bytes)) {
        from.pause()
        into.once('drain', () => isCut || from.resume())
      }
    })
  }

  const server = createServer((near) => {
    const far = connect(to, '127.0.0.1')
    sockets.add(near).add(far)
    pass(near, far, () => {})
    pass(far, near, counted)
    if (isCut) cut()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return {
    port: (server.address() as AddressInfo).port,
    cut,
    passed(bytes) {
      const { promise, resolve } = Promise.withResolvers<void>()
      waiting.add({ bytes, resolve })
      return promise
    },
  }
}
