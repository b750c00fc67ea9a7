/** The calls of BuildKit's control API that we make on our own account. */
import { type ClientReadableStream, credentials, Metadata, status } from '@grpc/grpc-js'
import { HearthError } from '../../../core/errors.ts'
import { fromServiceError } from '../../../core/grpc-status.ts'
import {
  ControlClient,
  type PruneRequest,
  type UsageRecord,
} from '../../../proto/generated/buildkit/control.ts'

export interface DaemonFacts {
  /** As the daemon says it: "v0.34.2", or "v0.0.0+unknown" for one built without a stamp. */
  readonly version: string
  /** "os/arch" list, native first. */
  readonly platforms: readonly string[]
}

export interface Control extends Disposable {
  /**
   * Waits until the daemon answers.
   * @throws HearthError `deadline`, `cancelled`
   */
  facts(options: { limitMs: number; signal: AbortSignal }): Promise<DaemonFacts>

  /**
   * Asks what costs the daemon nothing to answer.
   * @throws HearthError `deadline`, `unavailable`, `cancelled`
   */
  probe(options: { limitMs: number; signal: AbortSignal }): Promise<void>

  /**
   * Removes the least recently used state until at most `bytesMax` remain, as BuildKit counts them. When it
   * rejects with `cancelled`, the daemon has let go of everything it held meanwhile.
   */
  prune(options: { bytesMax: number; signal: AbortSignal }): Promise<void>
  /** Removes what was not used for so long. Rejects like `prune`. */
  pruneUnused(options: { unusedMsMax: number; signal: AbortSignal }): Promise<void>
}

export function connectControl(socket: string): Control {
  const client = new ControlClient(`unix:${socket}`, credentials.createInsecure(), {
    // The socket appears some tenths of a second after we begin to try.
    'grpc.initial_reconnect_backoff_ms': 25,
    'grpc.min_reconnect_backoff_ms': 25,
    'grpc.max_reconnect_backoff_ms': 200,
    'grpc.enable_http_proxy': 0,
    // A new client means a new connection: one that a stuck daemon accepted long ago proves nothing.
    'grpc.use_local_subchannel_pool': 1,
  })
  return {
    async facts({ limitMs, signal }) {
      const deadline = new Date(Date.now() + limitMs)
      await waitReady(client, deadline, signal)
      const info = await unary<{ buildkitVersion: { version: string } | undefined }>((done) =>
        client.info({}, new Metadata(), { deadline }, done),
      )
      const workers = await unary<{ record: { platforms: PlatformName[] }[] }>((done) =>
        client.listWorkers({ filter: [] }, new Metadata(), { deadline }, done),
      )
      const names = (workers.record[0]?.platforms ?? []).map(
        ({ os, architecture }) => `${os}/${architecture}`,
      )
      return {
        version: info.buildkitVersion?.version ?? 'unknown',
        platforms: [...new Set(names)],
      }
    },

    async probe({ limitMs, signal }) {
      const deadline = new Date(Date.now() + limitMs)
      const stop = new AbortController()
      try {
        await new Promise<void>((resolve, reject) => {
          const call = client.info({}, new Metadata(), { deadline }, (error) => {
            if (error === null) resolve()
            else reject(fromServiceError(error, 'ask BuildKit whether it is there'))
          })
          signal.addEventListener('abort', () => call.cancel(), { once: true, signal: stop.signal })
          if (signal.aborted) call.cancel()
        })
      } finally {
        stop.abort()
      }
    },

    // 0 would mean "no limit", and prune everything at once.
    prune: ({ bytesMax, signal }) =>
      pruneBy(client, { maxUsedSpace: Math.max(1, Math.floor(bytesMax)) }, signal),

    pruneUnused: ({ unusedMsMax, signal }) =>
      pruneBy(client, { keepDuration: Math.max(1, Math.floor(unusedMsMax * 1e6)) }, signal),

    [Symbol.dispose]: () => client.close(),
  }
}

interface PlatformName {
  os: string
  architecture: string
}

const pruneNothing: PruneRequest = {
  filter: [],
  all: true,
  keepDuration: 0,
  reservedSpace: 0,
  maxUsedSpace: 0,
  minFreeSpace: 0,
}

async function pruneBy(
  client: ControlClient,
  limit: Partial<PruneRequest>,
  signal: AbortSignal,
): Promise<void> {
  try {
    await drain(client.prune({ ...pruneNothing, ...limit }), signal)
  } catch (error) {
    if (!signal.aborted) throw fromServiceError(error, 'prune BuildKit state')
    // A cancelled call returns here before it has ended there. Calls exclude one another there
    // (cache/manager.go: muPrune), so one that matches nothing ends after it.
    await drain(client.prune({ ...pruneNothing, filter: ['id==none'] }))
    throw new HearthError('cancelled', 'pruning gave way to a build')
  }
}

function waitReady(client: ControlClient, deadline: Date, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(new HearthError('cancelled', 'no longer waiting for BuildKit'))
    if (signal.aborted) return abort()
    signal.addEventListener('abort', abort, { once: true })
    client.waitForReady(deadline, (error) => {
      signal.removeEventListener('abort', abort)
      if (error === undefined) resolve()
      else reject(new HearthError('deadline', 'BuildKit does not answer in time', { cause: error }))
    })
  })
}

function unary<Response>(
  call: (done: (error: Error | null, response: Response) => void) => void,
): Promise<Response> {
  return new Promise((resolve, reject) => {
    call((error, response) => {
      if (error === null) resolve(response)
      else reject(fromServiceError(error, 'ask BuildKit about itself'))
    })
  })
}

async function drain(
  stream: ClientReadableStream<UsageRecord>,
  signal?: AbortSignal,
): Promise<void> {
  const cancel = (): void => stream.cancel()
  signal?.addEventListener('abort', cancel, { once: true })
  if (signal?.aborted) cancel()
  try {
    await new Promise<void>((resolve, reject) => {
      stream.on('data', () => {})
      stream.on('error', reject)
      stream.on('status', (ending) => {
        if (ending.code === status.OK) resolve()
      })
    })
  } finally {
    signal?.removeEventListener('abort', cancel)
  }
}
