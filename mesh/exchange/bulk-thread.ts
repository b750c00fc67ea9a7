/** The thread of the direct road: both of its ends, the files it writes, and the hashing. */
import { parentPort, workerData } from 'node:worker_threads'
import { describeError } from '../../core/errors.ts'
import { createBlockPool } from './block-pool.ts'
import { connectBulk } from './bulk-connection.ts'
import { createBulkConnections } from './bulk-connections.ts'
import type { NamedBlob } from './bulk-paths.ts'
import { startBulkServer } from './bulk-server.ts'
import { downloadBlob } from './download.ts'
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
const connections = createBulkConnections((peer, { signal }) =>
  connectBulk({ blocks, identity }, peer, { connectMs: start.connectMs, signal }),
)
let lastFind = 0

function say(message: FromThread): void {
  parentPort?.postMessage(message)
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
    const outcome = await downloadBlob(
      {
        blocks,
        connect: async (source, { signal }) =>
          source.type === 'url'
            ? openUrl({ blocks }, source.url)
            : connections.open(source, request, { signal }),
      },
      { ...request, signal: cancelled.signal },
    )
    say({ type: 'fetched', id, outcome })
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
  parentPort?.on('message', (message: ToThread) => {
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
  })
  say({ type: 'listening', port: server.port })
}

run().catch((error: unknown) => say({ type: 'not listening', message: describeError(error) }))
