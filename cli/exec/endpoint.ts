/**
 * A BuildKit on this machine for clients that know nothing of Hearth: a unix socket that only its owner can
 * open, whose connections are carried to the node (or builder) byte for byte. The client speaks plain gRPC;
 * what the node wants to be shown besides is added on the way.
 */
import { chmod } from 'node:fs/promises'
import { createServer, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { pipeline } from 'node:stream'
import { toHearthError } from '../../core/errors.ts'

export interface Endpoint extends AsyncDisposable {
  /** "unix:///…", for BUILDKIT_HOST. */
  readonly address: string
}

/**
 * @param file where the socket is made, in a folder of its owner alone.
 * @param connect opens the far end of one connection.
 * @throws HearthError when the socket cannot be made.
 */
export async function serveEndpoint(file: string, connect: () => Duplex): Promise<Endpoint> {
  const connections = new Set<Socket>()
  const server = createServer((near) => {
    const far = connect()
    connections.add(near)
    near.once('close', () => {
      connections.delete(near)
      // A far end that has only been told that nothing more comes may never close by itself.
      far.destroy()
    })
    // Either end that closes or breaks takes the other one with it; the client says what that meant to it.
    pipeline(near, far, near, () => near.destroy())
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(toHearthError(error, `listen on ${file}`)))
    server.listen(file, resolve)
  })
  await chmod(file, 0o600)
  return {
    address: `unix://${file}`,
    async [Symbol.asyncDispose]() {
      const closed = new Promise((resolve) => server.close(resolve))
      for (const connection of connections) connection.destroy()
      await closed
    },
  }
}
