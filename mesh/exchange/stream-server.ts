/** The giving end of the stream road. It runs on the node's event loop, where libp2p lives. */
import { type FileHandle, open } from 'node:fs/promises'
import { describeError, hasErrno } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import type { FramedStream } from '../host/index.ts'
import type { PeerStreams, ServedBlobs } from './index.ts'
import {
  blobProtocol,
  parseRequest,
  type RangeRequest,
  streamFrameBytes,
  writeAnswer,
} from './stream-protocol.ts'
import type { UploadPace } from './upload-pace.ts'

/** Of one peer: more than an asker opens, as those that are ending still count. */
const streamsPerPeerMax = 32
/** Of all peers: each has a file open and a frame in memory. */
const streamsMax = 256
/** A stream on which nothing is asked for so long is ended; the asker keeps idle ones for less. */
const idleMs = 60_000

export interface StreamServerDeps {
  streams: PeerStreams
  blobs: ServedBlobs
  pace: UploadPace
  log: Logger
}

/** @param options.isMember whether this node may be given blobs now. */
export async function serveStreams(
  deps: StreamServerDeps,
  options: { isMember: (nodeId: string) => boolean; signal: AbortSignal },
): Promise<void> {
  const { streams, log } = deps
  let count = 0

  async function serve(stream: FramedStream): Promise<void> {
    for (;;) {
      const idle = AbortSignal.any([options.signal, AbortSignal.timeout(idleMs)])
      const frame = await stream.read({ signal: idle })
      if (frame === undefined) return
      const request = parseRequest(frame)
      if (request === undefined) throw new Error('it asked for nothing that can be given')
      await give(deps, stream, request, options.signal)
    }
  }

  await streams.handle(
    blobProtocol,
    (stream, peerId) => {
      const nodeId = streams.member(peerId)?.membership.nodeId
      if (nodeId === undefined || !options.isMember(nodeId)) {
        log.warn({ peer: peerId }, 'a peer that is no node asked for blobs')
        return stream.abort('no node')
      }
      if (count >= streamsMax) return stream.abort('too busy')
      count += 1
      serve(stream)
        .then(() => stream.close())
        .catch((error: unknown) => {
          log.debug({ peer: peerId, reason: describeError(error) }, 'a stream for blobs has ended')
          stream.abort('it is over')
        })
        .finally(() => {
          count -= 1
        })
    },
    { streamsPerPeerMax },
  )
}

async function give(
  { blobs, pace }: StreamServerDeps,
  stream: FramedStream,
  { scope, digest, start, end }: RangeRequest,
  signal: AbortSignal,
): Promise<void> {
  const found = blobs.find(scope, digest)
  await using file = found === undefined ? undefined : await openIfThere(found.file)
  if (found === undefined || file === undefined) {
    return await stream.write(writeAnswer({ type: 'absent' }), { signal })
  }
  const { size } = found
  if (end > size) {
    const answer = writeAnswer({ type: 'refused', message: `it has ${size} bytes` })
    return await stream.write(answer, { signal })
  }
  await stream.write(writeAnswer({ type: 'bytes', size }), { signal })
  const buffer = Buffer.allocUnsafe(Math.min(streamFrameBytes, end - start))
  for (let position = start; position < end; ) {
    const wanted = Math.min(buffer.length, end - position)
    const { bytesRead } = await file.read(buffer, 0, wanted, position)
    // The length is promised, so only breaking off tells the truth.
    if (bytesRead === 0) throw new Error('the file became shorter')
    await pace.wait(bytesRead)
    await stream.write(buffer.subarray(0, bytesRead), { signal })
    position += bytesRead
  }
}

async function openIfThere(file: string): Promise<FileHandle | undefined> {
  try {
    return await open(file, 'r')
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined
    throw error
  }
}
