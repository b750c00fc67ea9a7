/** Where the connections of an endpoint lead: to a node, or to this machine's own builder. */
import { spawn } from 'node:child_process'
import { connect as connectHttp2 } from 'node:http2'
import { Duplex } from 'node:stream'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import type { InstanceNode } from '../build/instance.ts'

/** A connection to the node's build proxy, with the certificate of the build. */
export function connectNode(node: InstanceNode, privateKeyPem: string): TLSSocket {
  const colon = node.address.lastIndexOf(':')
  return connectTls({
    host: node.address.slice(0, colon).replace(/^\[(.*)\]$/, '$1'),
    port: Number(node.address.slice(colon + 1)),
    servername: node.serverName,
    ca: node.caPem,
    cert: node.certificatePem,
    key: privateKeyPem,
    ALPNProtocols: ['h2'],
    minVersion: 'TLSv1.3',
  })
}

/** A connection to a builder of buildx, whatever its driver is. */
export function connectBuilder(buildx: string, builder: string, env: NodeJS.ProcessEnv): Duplex {
  const child = spawn(buildx, ['dial-stdio', '--builder', builder], {
    env,
    stdio: ['pipe', 'pipe', 'inherit'],
    // Ctrl-C is for the command; this ends when its client has gone.
    detached: true,
  })
  const connection = Duplex.from({ readable: child.stdout, writable: child.stdin })
  child.once('error', (error) => connection.destroy(error))
  // Asked to end, buildx waits for BuildKit to close the connection, which it may never do.
  connection.once('close', () => child.kill('SIGKILL'))
  return connection
}

/** A connection that was lost is made again after this time. */
const againMs = 1_000

/**
 * Keeps the slots of a build from its nodes' point of view: a command may do much else before it builds, and
 * between two builds, and a slot without any connection goes to the next in the queue.
 */
export function holdSlots(nodes: readonly InstanceNode[], privateKeyPem: string): Disposable {
  const closing = new AbortController()
  for (const node of nodes) hold(node)
  return { [Symbol.dispose]: () => closing.abort() }

  function hold(node: InstanceNode): void {
    if (closing.signal.aborted) return
    const session = connectHttp2(`https://${node.serverName}`, {
      createConnection: () => connectNode(node, privateKeyPem),
    })
    const end = (): void => session.destroy()
    closing.signal.addEventListener('abort', end, { once: true })
    session.on('error', () => {}) // 'close' follows.
    session.on('close', () => {
      closing.signal.removeEventListener('abort', end)
      setTimeout(() => hold(node), againMs).unref()
    })
    session.unref()
  }
}
