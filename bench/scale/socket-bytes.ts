/** What this process has sent and received over TCP, without the headers of TCP and IP. */
import { subscribe } from 'node:diagnostics_channel'
import type { Socket } from 'node:net'

/** From now on, of sockets that are made from now on. @returns bytes so far. */
export function countSocketBytes(): () => number {
  const open = new Set<Socket>()
  let closedBytes = 0
  const bytesOf = ({ bytesRead, bytesWritten }: Socket) => bytesRead + bytesWritten
  const note = (message: unknown) => {
    const { socket } = message as { socket: Socket }
    open.add(socket)
    socket.once('close', () => {
      open.delete(socket)
      closedBytes += bytesOf(socket)
    })
  }
  subscribe('net.client.socket', note)
  subscribe('net.server.socket', note)
  return () => [...open].reduce((sum, socket) => sum + bytesOf(socket), closedBytes)
}
