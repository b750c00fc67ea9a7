/**
 * The reading end of the direct road: one keep-alive connection to a node, HTTP/1.1 answers read by hand. The
 * socket reads straight into blocks (`onread`), which is several times faster than a response stream and its
 * chunks.
 */
import type { OnReadOpts } from 'node:net'
import tls from 'node:tls'
import type { TlsIdentity } from '../../core/grpc-server.ts'
import { nodeServerName } from '../../core/identity.ts'
import { type BlockPool, blockBytes } from './block-pool.ts'
import { blobPath, type WantedBlob } from './bulk-paths.ts'
import type { Road } from './index.ts'
import { type BlockSink, SourceFailure } from './source-connection.ts'

export interface BulkPeer {
  nodeId: string
  host: string
  port: number
  /** libp2p's name of it, for the other road. */
  peerId?: string
}

export interface BulkConnection extends Disposable {
  readonly nodeId: string
  readonly road: Road
  /** All bytes it has received. */
  readonly bytesReceived: number
  /** False once it is closed, by whomever: then it is of no use any more. */
  readonly isOpen: boolean
  /** One at a time. See SourceConnection.read. */
  read(blob: WantedBlob, range: { start: number; end: number }, onBlock: BlockSink): Promise<void>
}

/** Blocks of one connection that may wait for the disk. */
const blocksInFlightMax = 4
const headBytesMax = 8 * 1024
const endOfHead = '\r\n\r\n'

interface Reading {
  sink: BlockSink
  /** Of the whole blob. */
  size: number
  /** Of the next byte in the blob, and how many are still to come. */
  position: number
  left: number
  inFlight: number
  settle(broken?: Broken): void
}

/** Why the connection is of no use any more: a SourceFailure, or what the sink threw. */
interface Broken {
  readonly error: unknown
}

/** @throws SourceFailure `unreachable` when there is no such node in time, or it is somebody else. */
export async function connectBulk(
  deps: { blocks: BlockPool; identity: TlsIdentity },
  peer: BulkPeer,
  limits: { connectMs: number; signal: AbortSignal },
): Promise<BulkConnection> {
  const { blocks, identity } = deps
  const head = Buffer.allocUnsafeSlow(headBytesMax)
  let headBytes = 0
  let block: Buffer | undefined
  let blockFilled = 0
  let reading: Reading | undefined
  let bytesReceived = 0
  let isPaused = false
  let broken: Broken | undefined

  const options: tls.ConnectionOptions & { onread: OnReadOpts } = {
    host: peer.host,
    port: peer.port,
    servername: nodeServerName(peer.nodeId),
    minVersion: 'TLSv1.3',
    ca: identity.caPem,
    cert: identity.certificatePem,
    key: identity.privateKeyPem,
    onread: { buffer: room, callback: received },
  }
  const socket = tls.connect(options)
  socket.setNoDelay(true)

  function room(): Buffer {
    // What TLS has decrypted already still comes after a destroy; with no room for it, it would come for ever.
    if (broken !== undefined) return head
    if (block === undefined || reading === undefined) return head.subarray(headBytes)
    return block.subarray(blockFilled, Math.min(blockBytes, blockFilled + reading.left))
  }

  /** @returns false to stop reading until the socket is resumed. */
  function received(bytes: number): boolean {
    if (broken !== undefined) return false
    bytesReceived += bytes
    if (block !== undefined) return filled(bytes)
    headBytes += bytes
    const end = head.subarray(0, headBytes).indexOf(endOfHead, 0, 'latin1')
    if (end === -1) {
      if (headBytes < headBytesMax) return true
      fail(new SourceFailure('broken off', 'its answer is no answer'))
      return false
    }
    return answered(head.toString('latin1', 0, end), end + endOfHead.length)
  }

  function answered(text: string, bodyStart: number): boolean {
    const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(text)?.[1])
    const length = Number(/\r\ncontent-length: (\d+)/i.exec(text)?.[1])
    if (reading === undefined || status !== 206 || length !== reading.left) {
      fail(refusal(status))
      return false
    }
    // Whoever wants a digest with another size is mistaken; whoever has it must not be taken for a liar.
    const size = Number(/\r\ncontent-range: bytes \d+-\d+\/(\d+)/i.exec(text)?.[1])
    if (size !== reading.size) {
      fail(new SourceFailure('absent', `its blob of that digest has ${size} bytes`))
      return false
    }
    block = blocks.take()
    // What came with the head is the beginning of the body.
    const extra = headBytes - bodyStart
    if (extra > reading.left) {
      fail(new SourceFailure('broken off', 'it sent more than it was asked for'))
      return false
    }
    head.copy(block, 0, bodyStart, headBytes)
    headBytes = 0
    blockFilled = 0
    return filled(extra)
  }

  function filled(bytes: number): boolean {
    if (reading === undefined || block === undefined) return false
    blockFilled += bytes
    reading.left -= bytes
    if (blockFilled < blockBytes && reading.left > 0) return true
    handOver(reading, block)
    block = reading.left > 0 ? blocks.take() : undefined
    blockFilled = 0
    isPaused = reading.inFlight >= blocksInFlightMax
    return !isPaused
  }

  function handOver(current: Reading, full: Buffer): void {
    const bytes = blockFilled
    const { position } = current
    current.position += bytes
    current.inFlight += 1
    current
      .sink(full, bytes, position)
      .finally(() => blocks.give(full))
      .then(
        () => {
          current.inFlight -= 1
          if (isPaused) socket.resume()
          isPaused = false
          if (current.left === 0 && current.inFlight === 0) current.settle()
        },
        (error: unknown) => fail(error),
      )
  }

  function fail(error: unknown): void {
    broken ??= { error }
    socket.destroy()
    if (block !== undefined) blocks.give(block)
    block = undefined
    reading?.settle(broken)
  }

  socket.on('error', (error) => fail(new SourceFailure('broken off', error.message)))
  socket.on('close', () => fail(new SourceFailure('broken off', 'it closed the connection')))
  await connected(socket, limits)

  return {
    nodeId: peer.nodeId,
    road: 'direct',
    get bytesReceived() {
      return bytesReceived
    },
    get isOpen() {
      return broken === undefined
    },
    async read(blob, { start, end }, sink) {
      if (broken !== undefined) throw broken.error
      const { promise, resolve, reject } = Promise.withResolvers<void>()
      const current: Reading = {
        sink,
        size: blob.size,
        position: start,
        left: end - start,
        inFlight: 0,
        settle: (failed) => (failed === undefined ? resolve() : reject(failed.error)),
      }
      reading = current
      socket.write(
        `GET ${blobPath(blob)} HTTP/1.1\r\nHost: ${nodeServerName(peer.nodeId)}\r\n` +
          `Range: bytes=${start}-${end - 1}\r\n\r\n`,
      )
      try {
        await promise
      } finally {
        reading = undefined
      }
    },
    [Symbol.dispose]: () => fail(new SourceFailure('broken off', 'no longer wanted')),
  }
}

function refusal(status: number): SourceFailure {
  if (status === 404) return new SourceFailure('absent', 'it does not have the blob (any more)')
  if (status === 503) return new SourceFailure('refused', 'it is too busy')
  return new SourceFailure('refused', `it answered ${Number.isNaN(status) ? 'nonsense' : status}`)
}

async function connected(
  socket: tls.TLSSocket,
  { connectMs, signal }: { connectMs: number; signal: AbortSignal },
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const refuse = (message: string) => reject(new SourceFailure('unreachable', message))
  const onError = (error: Error): void => refuse(error.message)
  const onClose = (): void => refuse('it closed the connection')
  const onAbort = (): void => refuse('no longer wanted')
  const timer = setTimeout(() => refuse(`no connection within ${connectMs} ms`), connectMs)
  socket.once('secureConnect', resolve).once('error', onError).once('close', onClose)
  signal.addEventListener('abort', onAbort, { once: true })
  if (signal.aborted) onAbort()
  try {
    await promise
  } catch (error) {
    socket.destroy()
    throw error
  } finally {
    clearTimeout(timer)
    socket.off('secureConnect', resolve).off('error', onError).off('close', onClose)
    signal.removeEventListener('abort', onAbort)
  }
}
