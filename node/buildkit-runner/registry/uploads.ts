/**
 * Upload sessions: the bytes of blobs that have not been named yet.
 *
 *   open ──use──▶ busy ──done──▶ open ──left alone, cancelled, failed, or its grant ends──▶ gone
 *                  └──── commit ────────────────────────────────────────────────────────────┘
 *
 * One request at a time uses a session. A client that loses its connection in mid-chunk finds the session
 * with the bytes that arrived, and may go on from there.
 */
import { randomBytes } from 'node:crypto'
import type { Logger } from '../../../core/log.ts'
import type { BlobWriter, CacheStore } from '../../cache-store/index.ts'
import type { LiveGrant } from './grants.ts'

export interface UploadsOptions {
  /** Open sessions per grant. BuildKit pushes a few at a time; it waits and tries again when told so. */
  uploadsMax: number
  /** A session that nobody used for so long is thrown away. */
  idleMs: number
}

export interface Uploads extends AsyncDisposable {
  /** Undefined when the grant has as many sessions as it may. */
  start(grant: LiveGrant): Promise<UploadSession | undefined>
  find(grant: LiveGrant, id: string): UploadSession | undefined
  /** Open sessions of all grants. */
  readonly size: number
}

export class UploadSession implements AsyncDisposable {
  readonly id = randomBytes(16).toString('hex')
  readonly grant: LiveGrant
  readonly #writer: BlobWriter
  readonly #gone = new AbortController()
  readonly #idle: NodeJS.Timeout
  #using: Promise<unknown> | undefined

  constructor(grant: LiveGrant, writer: BlobWriter, idleMs: number) {
    this.grant = grant
    this.#writer = writer
    this.#idle = setTimeout(() => {
      // A chunk may take longer than a session may lie idle.
      if (this.#using === undefined) this.end()
      else this.#idle.refresh()
    }, idleMs).unref()
  }

  /** Bytes received so far. */
  get size(): number {
    return this.#writer.size
  }

  /** Aborted when the session is over, whatever ended it. */
  get gone(): AbortSignal {
    return this.#gone.signal
  }

  /** Gives the writer to one user; undefined when another has it or the session is over. */
  async use<T>(action: (writer: BlobWriter) => Promise<T>): Promise<T | undefined> {
    if (this.#using !== undefined || this.gone.aborted) return undefined
    const work = action(this.#writer)
    this.#using = work.catch(() => undefined)
    try {
      return await work
    } finally {
      this.#using = undefined
      this.#idle.refresh()
    }
  }

  /** Ends the session now; its bytes go as soon as nobody writes any more. */
  end(): void {
    if (this.gone.aborted) return
    clearTimeout(this.#idle)
    this.#gone.abort()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.end()
    await this.#using
    await this.#writer[Symbol.asyncDispose]()
  }
}

export function createUploads(
  deps: { store: CacheStore; log: Logger },
  options: UploadsOptions,
): Uploads {
  const sessions = new Map<string, UploadSession>()
  const openings = new Map<LiveGrant, number>()
  const endings = new Set<Promise<void>>()

  function countOf(grant: LiveGrant): number {
    let count = openings.get(grant) ?? 0
    for (const session of sessions.values()) if (session.grant === grant) count += 1
    return count
  }

  async function throwAway(session: UploadSession): Promise<void> {
    sessions.delete(session.id)
    try {
      await session[Symbol.asyncDispose]()
    } catch (error) {
      deps.log.warn({ error }, 'could not remove the bytes of an upload')
    }
  }

  function watch(session: UploadSession): void {
    const endWithGrant = () => session.end()
    session.grant.ended.addEventListener('abort', endWithGrant, { once: true })
    session.gone.addEventListener(
      'abort',
      () => {
        session.grant.ended.removeEventListener('abort', endWithGrant)
        const ending = throwAway(session).finally(() => endings.delete(ending))
        endings.add(ending)
      },
      { once: true },
    )
    if (session.grant.ended.aborted) session.end()
  }

  return {
    async start(grant) {
      if (countOf(grant) >= options.uploadsMax) return undefined
      openings.set(grant, (openings.get(grant) ?? 0) + 1)
      try {
        const writer = await deps.store.createWriter(grant.scope)
        const session = new UploadSession(grant, writer, options.idleMs)
        sessions.set(session.id, session)
        watch(session)
        return session
      } finally {
        const left = (openings.get(grant) ?? 1) - 1
        if (left === 0) openings.delete(grant)
        else openings.set(grant, left)
      }
    },
    find(grant, id) {
      const session = sessions.get(id)
      return session?.grant === grant ? session : undefined
    },
    get size() {
      return sessions.size
    },
    async [Symbol.asyncDispose]() {
      for (const session of [...sessions.values()]) session.end()
      await Promise.all(endings)
    },
  }
}
