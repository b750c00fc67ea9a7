/** Hashes files in a worker thread, in the order of asking. The thread starts with the first file. */
import path from 'node:path'
import { Worker } from 'node:worker_threads'
import type { Digest } from '../../core/digest.ts'
import { HearthError, toHearthError } from '../../core/errors.ts'

export interface Hasher extends AsyncDisposable {
  /**
   * @throws HearthError `not-found`, `cancelled`, `exhausted` when too many files wait, or what reading gave
   */
  hash(file: string, options: { signal: AbortSignal }): Promise<HashOutcome>
}

export type HashOutcome =
  | { type: 'hashed'; digest: Digest; size: number; inode: bigint }
  /** Somebody wrote to the file while it was read. */
  | { type: 'changed'; inode: bigint }

/** What the thread is sent. `stop` holds one 32-bit number: not 0 means stop. */
export interface HashRequest {
  readonly file: string
  readonly stop: SharedArrayBuffer
}

/** What the thread answers, one answer to each request. */
export type HashAnswer =
  | { type: 'hashed'; hex: string; size: number; inode: bigint }
  | { type: 'changed'; inode: bigint }
  | { type: 'stopped' }
  | { type: 'failed'; code: string; message: string }

interface Job {
  readonly request: HashRequest
  settle(answer: HashAnswer | Error): void
}

/** Files that may wait: each keeps a caller, and a build's worth is a few dozen. */
const waitingMax = 1_000

export function createHasher(): Hasher {
  const waiting: Job[] = []
  let current: Job | undefined
  let worker: Worker | undefined
  let closed = false

  const finish = (answer: HashAnswer | Error) => {
    const job = current
    current = undefined
    job?.settle(answer)
    next()
  }

  const start = () => {
    const started = new Worker(workerFile)
    started.on('message', (answer: HashAnswer) => finish(answer))
    started.on('error', (error) => {
      worker = undefined
      finish(error)
    })
    return started
  }

  const next = () => {
    if (current !== undefined) return
    current = waiting.shift()
    if (current === undefined) {
      // An idle thread must not keep the process alive.
      worker?.unref()
      return
    }
    worker ??= start()
    worker.ref()
    worker.postMessage(current.request)
  }

  const enqueue = (file: string, signal: AbortSignal) => {
    const { promise, resolve } = Promise.withResolvers<HashAnswer | Error>()
    const stop = new SharedArrayBuffer(4)
    const job: Job = { request: { file, stop }, settle: resolve }
    const cancel = () => {
      Atomics.store(new Int32Array(stop), 0, 1)
      const place = waiting.indexOf(job)
      if (place === -1) return
      waiting.splice(place, 1)
      resolve({ type: 'stopped' })
    }
    signal.addEventListener('abort', cancel, { once: true })
    waiting.push(job)
    next()
    return promise.finally(() => signal.removeEventListener('abort', cancel))
  }

  return {
    async hash(file, { signal }) {
      if (closed || signal.aborted) throw cancelled(signal)
      if (waiting.length >= waitingMax) {
        throw new HearthError('exhausted', `${waitingMax} files wait to be hashed already`)
      }
      const answer = await enqueue(file, signal)
      if (answer instanceof Error) throw toHearthError(answer, `hash ${file}`)
      switch (answer.type) {
        case 'hashed': {
          const { hex, size, inode } = answer
          return { type: 'hashed', digest: `sha256:${hex}`, size, inode }
        }
        case 'changed':
          return answer
        case 'stopped':
          throw cancelled(signal)
        case 'failed':
          throw toHearthError(Object.assign(new Error(answer.message), { code: answer.code }))
      }
    },
    async [Symbol.asyncDispose]() {
      closed = true
      for (const job of waiting.splice(0)) job.settle({ type: 'stopped' })
      current?.settle({ type: 'stopped' })
      await worker?.terminate()
    },
  }
}

// As .ts from source, as .js from the published package.
const workerFile = new URL(`./hash-worker${path.extname(import.meta.url)}`, import.meta.url)

function cancelled(signal: AbortSignal): HearthError {
  return new HearthError('cancelled', 'hashing was cancelled', { cause: signal.reason })
}
