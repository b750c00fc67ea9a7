/** The fetches of blobs under way: each blob once, however many ask for it, and so many at a time. */
import { randomUUID } from 'node:crypto'
import { statfs } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import path from 'node:path'
import type { Digest } from '../../../../core/digest.ts'
import { describeError, HearthError } from '../../../../core/errors.ts'
import { gib } from '../../../../core/limits.ts'
import type { Logger } from '../../../../core/log.ts'
import type { CacheStore } from '../../../cache-store/index.ts'
import { createShortMemory } from './anonymous-tokens.ts'
import { Download } from './download.ts'
import { mirrorScope } from './index.ts'
import type { UpstreamClient } from './upstream-client.ts'
import type { Upstream } from './upstreams.ts'

export interface Fetches extends AsyncDisposable {
  /** The blob as it arrives; undefined when the registry does not give it to us, or we have no room for it. */
  follow(wanted: WantedBlob): Promise<Download | undefined>
}

export interface WantedBlob {
  readonly upstream: Upstream
  readonly name: string
  readonly digest: Digest
}

export interface FetchOptions {
  folder: string
  fetchMs: number
  blobBytesMax: number
  fetchesMax: number
  unreadMs: number
}

/** How often a fetch goes on where it broke off. */
const resumesMax = 3

/** What went wrong is left to BuildKit for a while: it would ask again and again. */
const failedMs = 300_000

/** Left free beside a blob that is fetched. */
const spareBytes = 1 * gib

export function createFetches(
  deps: { store: CacheStore; client: UpstreamClient; log: Logger },
  options: FetchOptions,
): Fetches {
  const closing = new AbortController()
  const running = new Map<Digest, Promise<Download | undefined>>()
  const working = new Set<Promise<void>>()
  const failed = createShortMemory<true>({ entriesMax: 1000 })

  /** @param over called when nobody shall join it any more. */
  async function start(wanted: WantedBlob, over: () => void): Promise<Download | undefined> {
    const deadline = new AbortController()
    const timer = setTimeout(() => {
      deadline.abort(new HearthError('deadline', 'the fetch takes too long'))
    }, options.fetchMs).unref()
    const limits = AbortSignal.any([closing.signal, deadline.signal])
    let download: Download | undefined
    try {
      const response = await ask(wanted, 0, limits)
      if (response === undefined) return undefined
      const size = Number(response.headers['content-length'] ?? Number.NaN)
      if (!(await hasRoomFor(size))) {
        response.destroy()
        return undefined
      }
      const file = path.join(options.folder, randomUUID())
      download = await Download.create({ file, size, unreadMs: options.unreadMs })
      download.unread.addEventListener('abort', over, { once: true })
      const work = bring(wanted, download, response, limits).finally(() => {
        clearTimeout(timer)
        over()
        working.delete(work)
      })
      working.add(work)
      return download
    } finally {
      if (download === undefined) {
        clearTimeout(timer)
        over()
      }
    }
  }

  /** From byte `from` on; undefined when there is no such answer. */
  async function ask(
    { upstream, name, digest }: WantedBlob,
    from: number,
    signal: AbortSignal,
  ): Promise<IncomingMessage | undefined> {
    const outcome = await deps.client.ask(upstream, {
      method: 'GET',
      name,
      path: `blobs/${digest}`,
      headers: from === 0 ? {} : { range: `bytes=${from}-` },
      signal,
    })
    if (outcome.type !== 'answer') return undefined
    const { response } = outcome
    const isRight =
      from === 0
        ? response.statusCode === 200
        : response.statusCode === 206 &&
          response.headers['content-range']?.startsWith(`bytes ${from}-`) === true
    if (isRight) return response
    response.destroy()
    return undefined
  }

  async function hasRoomFor(size: number): Promise<boolean> {
    if (!Number.isSafeInteger(size) || size > options.blobBytesMax) return false
    const { bavail, bsize } = await statfs(options.folder)
    return bavail * bsize > size + spareBytes
  }

  /** Never rejects: how it ended is told to the readers. */
  async function bring(
    wanted: WantedBlob,
    download: Download,
    first: IncomingMessage,
    limits: AbortSignal,
  ): Promise<void> {
    const { digest, upstream } = wanted
    const log = deps.log.child({ upstream: upstream.host, digest })
    const startedAtMs = performance.now()
    const signal = AbortSignal.any([limits, download.unread])
    try {
      await receive(wanted, download, first, signal)
      const outcome = await deps.store.adopt(mirrorScope, digest, download.file, { signal: limits })
      if (outcome.type === 'refused') {
        throw new HearthError(
          'corrupt',
          `what ${upstream.host} sent is not kept: ${outcome.reason}`,
        )
      }
      await download.end({ type: 'kept' })
      const tookMs = Math.round(performance.now() - startedAtMs)
      log.info({ bytes: download.size, tookMs }, 'mirrored a blob')
    } catch (error) {
      log.warn({ error: describeError(error) }, 'a blob could not be mirrored')
      if (!signal.aborted) failed.set(digest, true, failedMs)
      await download.end({ type: 'failed', error })
    }
  }

  async function receive(
    wanted: WantedBlob,
    download: Download,
    first: IncomingMessage,
    signal: AbortSignal,
  ): Promise<void> {
    let response: IncomingMessage | undefined = first
    for (let resumes = 0; ; resumes += 1) {
      const abort = (): void => void response?.destroy(signal.reason as Error)
      signal.addEventListener('abort', abort, { once: true })
      try {
        signal.throwIfAborted()
        for await (const chunk of response as AsyncIterable<Buffer>) await download.append(chunk)
        if (download.received === download.size) return
        throw new HearthError('unavailable', 'the registry ended the blob early')
      } catch (error) {
        const canResume =
          !signal.aborted && resumes < resumesMax && download.received < download.size
        response = canResume ? await ask(wanted, download.received, signal) : undefined
        if (response === undefined) throw error
      } finally {
        signal.removeEventListener('abort', abort)
      }
    }
  }

  return {
    follow(wanted) {
      const known = running.get(wanted.digest)
      if (known !== undefined) return known
      if (failed.get(wanted.digest) === true) return Promise.resolve(undefined)
      if (running.size >= options.fetchesMax || closing.signal.aborted) {
        return Promise.resolve(undefined)
      }
      const started = start(wanted, () => {
        // Another fetch of the same blob may have begun since.
        if (running.get(wanted.digest) === started) running.delete(wanted.digest)
      })
      running.set(wanted.digest, started)
      return started
    },
    async [Symbol.asyncDispose]() {
      closing.abort(new HearthError('cancelled', 'the mirror is closing'))
      await Promise.allSettled([...running.values()])
      await Promise.all(working)
    },
  }
}
