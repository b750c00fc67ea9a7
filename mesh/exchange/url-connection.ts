/** Range requests to anything that speaks HTTP and has exactly this blob: an object of S3 by its presigned URL. */
import http from 'node:http'
import https from 'node:https'
import { type BlockPool, blockBytes } from './block-pool.ts'
import {
  type BlockSink,
  type SourceConnection,
  SourceFailure,
  toSourceFailure,
} from './source-connection.ts'

export function openUrl(deps: { blocks: BlockPool }, url: string): SourceConnection {
  const address = new URL(url)
  const client = address.protocol === 'https:' ? https : http
  const agent = new client.Agent({ keepAlive: true, maxSockets: 1 })
  const over = new AbortController()
  let bytesReceived = 0

  async function read(
    { start, end }: { start: number; end: number },
    onBlock: BlockSink,
  ): Promise<void> {
    const response = await request(start, end)
    let block = deps.blocks.take()
    let filled = 0
    let position = start
    const flush = async (): Promise<void> => {
      const full = block
      const bytes = filled
      block = deps.blocks.take()
      filled = 0
      try {
        await onBlock(full, bytes, position)
      } finally {
        deps.blocks.give(full)
      }
      position += bytes
    }
    try {
      for await (const chunk of response as AsyncIterable<Buffer>) {
        bytesReceived += chunk.length
        for (let used = 0; used < chunk.length; ) {
          const copied = chunk.copy(block, filled, used)
          used += copied
          filled += copied
          if (filled === blockBytes) await flush()
        }
        if (position + filled > end) break
      }
      if (position + filled !== end) {
        throw new SourceFailure(
          'broken off',
          'it sent another number of bytes than it was asked for',
        )
      }
      if (filled > 0) await flush()
    } finally {
      deps.blocks.give(block)
      response.destroy()
    }
  }

  async function request(start: number, end: number): Promise<http.IncomingMessage> {
    const { promise, resolve, reject } = Promise.withResolvers<http.IncomingMessage>()
    client
      .get(
        address,
        { agent, signal: over.signal, headers: { range: `bytes=${start}-${end - 1}` } },
        resolve,
      )
      .on('error', reject)
    const response = await promise.catch((error: unknown) => {
      throw toSourceFailure(error, 'unreachable')
    })
    const { statusCode = 0 } = response
    if (statusCode === 206) return response
    response.destroy()
    if (statusCode === 404) throw new SourceFailure('absent', 'there is no such object')
    throw new SourceFailure('refused', `it answered ${statusCode}`)
  }

  return {
    road: 'url',
    get bytesReceived() {
      return bytesReceived
    },
    read,
    [Symbol.dispose]() {
      over.abort()
      agent.destroy()
    },
  }
}
