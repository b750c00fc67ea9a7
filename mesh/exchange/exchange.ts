/** The node's side of the exchange: one thread, one fetch per file, and the memory of who was at fault. */
import path from 'node:path'
import { Worker } from 'node:worker_threads'
import PQueue from 'p-queue'
import { HearthError, toHearthError } from '../../core/errors.ts'
import { mib } from '../../core/limits.ts'
import { scopeId } from '../../core/scope.ts'
import { sourceName } from './crew.ts'
import type {
  Exchange,
  ExchangeDeps,
  ExchangeOptions,
  FetchOutcome,
  FetchRequest,
  SourceFault,
  TransferLimits,
} from './index.ts'
import { type Batch, createBatches } from './message-batches.ts'
import { createPatience } from './patience.ts'
import { createSetAside } from './set-aside.ts'
import { relayStream } from './stream-relay.ts'
import { serveStreams } from './stream-server.ts'
import type { FromThread, ThreadStart, ToThread } from './thread-messages.ts'
import { createUploadPace } from './upload-pace.ts'

const defaultLimits: TransferLimits = {
  connectMs: 3_000,
  hedgeMs: 500,
  stallMs: 5_000,
  pieceBytes: 8 * mib,
  asideMs: 10_000,
}

/** Fetches under way at once; each has a few connections. */
const fetchesMax = 16
/** Fetches that may wait for their turn. */
const waitingMax = 10_000

/** @throws HearthError `environment` when the address cannot be listened on. */
export async function createExchange(
  deps: ExchangeDeps,
  options: ExchangeOptions,
): Promise<Exchange> {
  const { log, streams, blobs } = deps
  const limits = { ...defaultLimits, ...options.limits }
  const aside = createSetAside({ firstMs: limits.asideMs, clock: () => performance.now() })
  const patience = createPatience({ hedgeMs: limits.hedgeMs })
  const closing = new AbortController()
  let members: ReadonlySet<string> = new Set()
  const turns = new PQueue({ concurrency: fetchesMax })
  const answers = new Map<number, PromiseWithResolvers<FetchOutcome>>()
  const listening = Promise.withResolvers<number>()
  let lastId = 0
  let closed = false

  const { host, port, identity, uploadBytesPerS } = options
  const start: ThreadStart = {
    ...{ host, port, identity, uploadBytesPerS, connectMs: limits.connectMs },
    hasStreams: streams !== undefined,
  }
  const thread = new Worker(threadFile, { workerData: start })
  const tell = createBatches<ToThread>((batch) => thread.postMessage(batch))
  const take = (message: FromThread) => {
    switch (message.type) {
      case 'listening':
        return listening.resolve(message.port)
      case 'not listening':
        return listening.reject(new HearthError('environment', message.message))
      case 'find': {
        const { scope, digest } = message.blob
        return tell({ type: 'found', id: message.id, blob: blobs.find(scope, digest) })
      }
      case 'fetched':
        for (const wait of message.waits) patience.note(wait)
        return answers.get(message.id)?.resolve(message.outcome)
      case 'threw': {
        const { code, message: text } = message
        return answers.get(message.id)?.reject(Object.assign(new Error(text), { code }))
      }
      case 'stream':
        return streams === undefined
          ? message.port.close()
          : relayStream(streams, message.peerId, message.port)
      case 'refused':
        return log.warn({ reason: message.message }, 'a caller of the direct road was turned away')
    }
  }
  thread.on('message', (batch: Batch<FromThread>) => {
    for (const message of batch) take(message)
  })
  const end = (error: Error): void => {
    closed = true
    listening.reject(error)
    for (const answer of answers.values()) answer.reject(error)
  }
  thread.on('error', (error) => {
    log.error({ error }, 'the thread of the direct road has failed')
    end(toHearthError(error, 'move blobs'))
  })
  const gone = new Promise((resolve) => thread.once('exit', resolve))
  thread.on('exit', () => end(new HearthError('unavailable', 'the direct road is closed')))
  const boundPort = await listening.promise
  if (streams !== undefined) {
    const pace = createUploadPace(uploadBytesPerS)
    const isMember = (nodeId: string) => members.has(nodeId)
    await serveStreams({ streams, blobs, pace, log }, { isMember, signal: closing.signal })
  }

  async function ask(request: FetchRequest, sources: FetchRequest['sources']) {
    const { scope, digest, size, file, isSynced = false, signal } = request
    lastId += 1
    const id = lastId
    const answer = Promise.withResolvers<FetchOutcome>()
    answers.set(id, answer)
    const hedgeMs = new Map<string, number>()
    for (const name of sources.map(sourceName)) {
      hedgeMs.set(name, patience.limitMs(name) ?? limits.hedgeMs)
    }
    const abort = (): void => tell({ type: 'abort', id })
    signal.addEventListener('abort', abort, { once: true })
    try {
      tell({
        type: 'fetch',
        id,
        request: { scope, digest, size, file, isSynced, sources, limits, hedgeMs },
      })
      return await answer.promise
    } catch (error) {
      if (signal.aborted) throw cancelled(signal)
      throw toHearthError(error, `fetch ${digest}`)
    } finally {
      signal.removeEventListener('abort', abort)
      answers.delete(id)
    }
  }

  function note({ sources, digest, scope }: FetchRequest, faults: readonly SourceFault[]): void {
    for (const { source, reason, message } of faults) {
      const asideMs = aside.atFault(source, reason)
      const found = sources.find((each) => sourceName(each) === source)
      const peer = found?.type === 'node' ? found.peerId : undefined
      log.warn(
        { source, peer, reason, asideMs, digest, scope: scopeId(scope) },
        `a source of a blob was at fault: ${message}`,
      )
    }
  }

  async function fetchNow(request: FetchRequest): Promise<FetchOutcome> {
    let sources = request.sources.filter((source) => !aside.isAside(sourceName(source)))
    if (sources.length === 0) {
      sources = request.sources.filter((source) => aside.isForgivable(sourceName(source)))
    }
    const resting = request.sources.filter((source) => !sources.includes(source))
    const skipped = resting.map(
      (source): SourceFault => ({
        source: sourceName(source),
        reason: 'set aside',
        message: 'it was at fault a moment ago',
      }),
    )
    if (sources.length === 0) return { type: 'failed', faults: skipped }
    const outcome = await ask(request, sources)
    note(request, outcome.faults)
    if (outcome.type === 'failed') return { ...outcome, faults: [...outcome.faults, ...skipped] }
    const atFault = new Set(outcome.faults.map(({ source }) => source))
    for (const source of outcome.bytesBySource.keys()) {
      if (!atFault.has(source)) aside.delivered(source)
    }
    return outcome
  }

  return {
    port: boundPort,
    async fetch(request) {
      const { signal } = request
      if (closed) throw new HearthError('unavailable', 'the direct road is closed')
      if (signal.aborted) throw cancelled(signal)
      if (turns.size >= waitingMax) {
        throw new HearthError('exhausted', `${waitingMax} blobs wait to be fetched already`)
      }
      try {
        return await turns.add(() => fetchNow(request), { signal })
      } catch (error) {
        throw signal.aborted ? cancelled(signal) : error
      }
    },
    setMembers(nodeIds) {
      members = new Set(nodeIds)
      tell({ type: 'members', nodeIds: members })
    },
    replaceIdentity: (renewed) => tell({ type: 'identity', identity: renewed }),
    async [Symbol.asyncDispose]() {
      closed = true
      closing.abort()
      tell({ type: 'stop' })
      const late = setTimeout(() => void thread.terminate(), stopMs)
      await gone
      clearTimeout(late)
    },
  }
}

const stopMs = 2_000

// As .ts from source, as .js from the published package.
const threadFile = new URL(`./bulk-thread${path.extname(import.meta.url)}`, import.meta.url)

function cancelled(signal: AbortSignal): HearthError {
  return new HearthError('cancelled', 'fetching a blob was cancelled', { cause: signal.reason })
}
