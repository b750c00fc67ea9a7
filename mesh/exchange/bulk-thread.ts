/** The thread of the direct road: both of its ends, the files it writes, and the hashing. */
import { MessageChannel, parentPort, workerData } from 'node:worker_threads'
import { describeError } from '../../core/errors.ts'
import { createBlockPool } from './block-pool.ts'
import { type BulkConnection, type BulkPeer, connectBulk } from './bulk-connection.ts'
import { createBulkConnections } from './bulk-connections.ts'
import type { NamedBlob } from './bulk-paths.ts'
import { startBulkServer } from './bulk-server.ts'
import { downloadBlob } from './download.ts'
import { type Batch, createBatches } from './message-batches.ts'
import { createRoads } from './roads.ts'
import { connectStream } from './stream-connection.ts'
import type { FromThread, ThreadStart, ToThread } from './thread-messages.ts'
import { createUploadPace } from './upload-pace.ts'
import { openUrl } from './url-connection.ts'

/** 64 MiB at the most: two for each of a dozen callers, a handful for each source. */
const idleBlocksMax = 64

const start = workerData as ThreadStart
const blocks = createBlockPool(idleBlocksMax)
const downloads = new Map<number, AbortController>()
const finds = new Map<number, (blob: { file: string; size: number } | undefined) => void>()
let identity = start.identity
const { connectMs } = start
const roads = createRoads<BulkPeer, BulkConnection>(
  {
    direct: (peer, { signal }) => connectBulk({ blocks, identity }, peer, { connectMs, signal }),
    byStream: start.hasStreams ? openStream : undefined,
  },
  { clock: () => performance.now() },
)
const connections = createBulkConnections(roads.connect)
let lastFind = 0

const say = createBatches<FromThread>((batch) => parentPort?.postMessage(batch))

function openStream(
  peer: BulkPeer & { peerId: string },
  { signal }: { signal: AbortSignal },
): Promise<BulkConnection> {
  const { port1: port, port2: other } = new MessageChannel()
  const message: FromThread = { type: 'stream', peerId: peer.peerId, port: other }
  parentPort?.postMessage([message], [other])
  return connectStream({ blocks, port }, peer, { connectMs, signal })
}

function find(blob: NamedBlob): Promise<{ file: string; size: number } | undefined> {
  lastFind += 1
  const id = lastFind
  const { promise, resolve } = Promise.withResolvers<{ file: string; size: number } | undefined>()
  finds.set(id, resolve)
  say({ type: 'find', id, blob })
  return promise
}

async function fetchBlob({ id, request }: Extract<ToThread, { type: 'fetch' }>): Promise<void> {
  const cancelled = new AbortController()
  downloads.set(id, cancelled)
  try {
    const { outcome, waits } = await downloadBlob(
      {
        blocks,
        connect: async (source, { signal }) =>
          source.type === 'url'
            ? openUrl({ blocks }, source.url)
            : connections.open(source, request, { signal }),
      },
      { ...request, signal: cancelled.signal },
    )
    say({ type: 'fetched', id, outcome, waits })
  } catch (error) {
    const { code = '', message } = error as NodeJS.ErrnoException
    say({ type: 'threw', id, code, message })
  } finally {
    downloads.delete(id)
  }
}

async function run(): Promise<void> {
  const server = await startBulkServer(
    {
      blocks,
      pace: createUploadPace(start.uploadBytesPerS),
      find,
      onRefused: (message) => say({ type: 'refused', message }),
    },
    start,
  )
  const take = (message: ToThread) => {
    switch (message.type) {
      case 'members':
        connections.closeIdle(message.nodeIds)
        return server.setMembers(message.nodeIds)
      case 'identity':
        identity = message.identity
        connections.closeIdle()
        return server.replaceIdentity(identity)
      case 'fetch':
        return void fetchBlob(message)
      case 'abort':
        return downloads.get(message.id)?.abort()
      case 'found':
        finds.get(message.id)?.(message.blob)
        finds.delete(message.id)
        return
      case 'stop':
        connections[Symbol.dispose]()
        for (const download of downloads.values()) download.abort()
        return void server[Symbol.asyncDispose]().then(() => parentPort?.close())
    }
  }
  parentPort?.on('message', (batch: Batch<ToThread>) => {
    for (const message of batch) take(message)
  })
  say({ type: 'listening', port: server.port })
}

run().catch((error: unknown) => say({ type: 'not listening', message: describeError(error) }))
