/** The asking end of the stream road as the thread sees it: a connection like those of the direct road. */
import type { MessagePort } from 'node:worker_threads'
import { type BlockPool, blockBytes } from './block-pool.ts'
import type { BulkConnection } from './bulk-connection.ts'
import { type BlockSink, SourceFailure } from './source-connection.ts'
import type { FromRelay, ToRelay } from './stream-messages.ts'
import type { RangeAnswer } from './stream-protocol.ts'

/** Blocks of one connection that may wait for the disk. */
const blocksInFlightMax = 4

interface Reading {
  readonly sink: BlockSink
  /** Of the whole blob. */
  readonly size: number
  block: Buffer
  filled: number
  /** Of the block in the blob, and what is still to come behind what has come. */
  position: number
  left: number
  inFlight: number
  /** Frames taken whose successor must wait for the disk. */
  owed: number
  resolve(): void
  reject(error: unknown): void
}

/**
 * @param deps.port to a relay (stream-relay.ts); it is closed with the connection.
 * @throws SourceFailure `unreachable` when the stream does not open in time.
 */
export async function connectStream(
  deps: { blocks: BlockPool; port: MessagePort },
  peer: { nodeId: string },
  limits: { connectMs: number; signal: AbortSignal },
): Promise<BulkConnection> {
  const { blocks, port } = deps
  const opened = Promise.withResolvers<void>()
  let reading: Reading | undefined
  let broken: { error: unknown } | undefined
  let bytesReceived = 0

  const tell = (message: ToRelay): void => port.postMessage(message)

  function fail(error: unknown): void {
    if (broken !== undefined) return
    broken = { error }
    opened.reject(error)
    port.close()
    const current = reading
    if (current === undefined) return
    blocks.give(current.block)
    reading = undefined
    current.reject(error)
  }

  function answered(current: Reading, answer: RangeAnswer): void {
    const failure = failureOf(answer, current.size)
    if (failure !== undefined) fail(failure)
  }

  function received(current: Reading, bytes: Uint8Array): void {
    bytesReceived += bytes.length
    for (let used = 0; used < bytes.length && reading === current; ) {
      const count = Math.min(bytes.length - used, blockBytes - current.filled)
      current.block.set(bytes.subarray(used, used + count), current.filled)
      used += count
      current.filled += count
      current.left -= count
      if (current.filled === blockBytes || current.left === 0) handOver(current)
    }
    if (reading !== current) return
    if (current.inFlight >= blocksInFlightMax) current.owed += 1
    else tell({ type: 'taken' })
  }

  function handOver(current: Reading): void {
    const { block, filled, position } = current
    current.position += filled
    current.filled = 0
    current.inFlight += 1
    current.block = blocks.take()
    current
      .sink(block, filled, position)
      .finally(() => blocks.give(block))
      .then(
        () => {
          current.inFlight -= 1
          if (broken !== undefined) return
          for (; current.owed > 0; current.owed -= 1) tell({ type: 'taken' })
          if (current.left === 0 && current.inFlight === 0) finish(current)
        },
        (error: unknown) => fail(error),
      )
  }

  function finish(current: Reading): void {
    if (reading !== current) return
    blocks.give(current.block)
    reading = undefined
    current.resolve()
  }

  port.on('message', (message: FromRelay) => {
    switch (message.type) {
      case 'open':
        return opened.resolve()
      case 'broken':
        return fail(new SourceFailure(message.reason, message.message))
      case 'answer':
        return reading === undefined ? undefined : answered(reading, message.answer)
      case 'bytes':
        return reading === undefined ? undefined : received(reading, message.bytes)
    }
  })
  port.on('close', () => fail(new SourceFailure('broken off', 'the stream has ended')))
  await within(opened.promise, limits, fail)

  return {
    nodeId: peer.nodeId,
    road: 'stream',
    get bytesReceived() {
      return bytesReceived
    },
    get isOpen() {
      return broken === undefined
    },
    async read(blob, { start, end }, sink) {
      if (broken !== undefined) throw broken.error
      const { promise, resolve, reject } = Promise.withResolvers<void>()
      reading = {
        ...{ sink, size: blob.size, resolve, reject, block: blocks.take() },
        ...{ filled: 0, position: start, left: end - start, inFlight: 0, owed: 0 },
      }
      const { scope, digest } = blob
      tell({ type: 'ask', request: { scope, digest, start, end } })
      await promise
    },
    [Symbol.dispose]: () => fail(new SourceFailure('broken off', 'no longer wanted')),
  }
}

function failureOf(answer: RangeAnswer, size: number): SourceFailure | undefined {
  switch (answer.type) {
    case 'absent':
      return new SourceFailure('absent', 'it does not have the blob (any more)')
    case 'refused':
      return new SourceFailure('refused', answer.message)
    case 'bytes':
      if (answer.size === size) return undefined
      return new SourceFailure('absent', `its blob of that digest has ${answer.size} bytes`)
  }
}

async function within(
  opened: Promise<void>,
  { connectMs, signal }: { connectMs: number; signal: AbortSignal },
  fail: (error: unknown) => void,
): Promise<void> {
  const refuse = (message: string) => fail(new SourceFailure('unreachable', message))
  const onAbort = (): void => refuse('no longer wanted')
  const timer = setTimeout(() => refuse(`no stream within ${connectMs} ms`), connectMs)
  signal.addEventListener('abort', onAbort, { once: true })
  if (signal.aborted) onAbort()
  try {
    await opened
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', onAbort)
  }
}
