/**
 * libp2p as Hearth uses it. Nothing listens without noise; no identify, no discovery, no datastore: peers
 * and their addresses come from memberships. The numbers are from measurements of libp2p 3.3.11.
 */
import { noise } from '@chainsafe/libp2p-noise'
import type { ConnectionGater, Libp2p, StreamMuxerFactory } from '@libp2p/interface'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { createLibp2p } from 'libp2p'
import { toHearthError } from '../../core/errors.ts'
import {
  addressDialMs,
  connectionsMax,
  dialMs,
  dialsMax,
  frameBytesMax,
  inboundPerSecondMax,
  pendingConnectionsMax,
  streamWindowBytesMax,
  upgradeMs,
} from '../limits.ts'
import type { PeerIdentity } from './identity.ts'

export interface Libp2pOptions {
  identity: PeerIdentity
  listen: readonly string[]
  announce: readonly string[]
  gater: ConnectionGater
  monitor: { pingIntervalMs: number; pingTimeoutMs: number }
}

/** Not started. */
export async function createPeer(options: Libp2pOptions): Promise<Libp2p> {
  const { pingIntervalMs, pingTimeoutMs } = options.monitor
  return await createLibp2p({
    start: false,
    privateKey: options.identity.privateKey,
    addresses: {
      listen: [...options.listen],
      // Without it 0.0.0.0 announces the bridges of containers too, and each wrong address costs 6 s.
      announce: [...options.announce],
    },
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [
      withoutThrowing(
        yamux({
          streamOptions: {
            // A larger window starves the monitor's ping, and its growth to 16 MiB overruns a paused stream.
            maxStreamWindowSize: streamWindowBytesMax,
            maxReadBufferLength: 4 * streamWindowBytesMax,
            maxWriteBufferLength: 4 * (streamWindowBytesMax + frameBytesMax),
          },
        }),
      ),
    ],
    connectionGater: options.gater,
    connectionManager: {
      maxConnections: connectionsMax,
      maxIncomingPendingConnections: pendingConnectionsMax,
      inboundConnectionThreshold: inboundPerSecondMax,
      inboundUpgradeTimeout: upgradeMs,
      maxParallelDials: dialsMax,
      dialTimeout: dialMs,
      addressDialTimeout: addressDialMs,
    },
    connectionMonitor: {
      pingInterval: pingIntervalMs,
      pingTimeout: { minTimeout: pingTimeoutMs, maxTimeout: 3 * pingTimeoutMs },
    },
  })
}

/**
 * yamux sends some frames, the first of a stream among them, where nobody can catch: on a connection that is
 * just closing what `send` throws would end the process. So it ends the connection instead.
 */
function withoutThrowing(factoryOf: ReturnType<typeof yamux>): () => StreamMuxerFactory {
  return () => {
    const factory = factoryOf()
    return {
      protocol: factory.protocol,
      createStreamMuxer(connection) {
        const send = connection.send.bind(connection)
        connection.send = (data) => {
          try {
            return send(data)
          } catch (error) {
            connection.abort(toHearthError(error))
            return true
          }
        }
        return factory.createStreamMuxer(connection)
      },
    }
  }
}
