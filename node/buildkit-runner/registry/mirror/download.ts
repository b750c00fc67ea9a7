/**
 * One blob on its way from a registry to the store: a file that grows, and any number of readers that follow
 * it at their own pace.
 *
 *   fetching ──all bytes──▶ verifying ──hash is right──▶ kept
 *      └──stalls, breaks, too long, unread──┴──hash is wrong──▶ failed
 *
 * Until the blob is kept, readers wait before its last byte: nobody gets the whole of something else.
 */
import { type FileHandle, open, rm } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { HearthError } from '../../../../core/errors.ts'
import { mib } from '../../../../core/limits.ts'
import type { ByteRange } from '../ranges.ts'

const pieceBytes = 1 * mib

export class Download {
  readonly size: number
  readonly file: string
  readonly #handle: FileHandle
  readonly #unread = new AbortController()
  readonly #unreadMs: number
  #unreadTimer: NodeJS.Timeout | undefined
  #received = 0
  #end: { type: 'kept' } | { type: 'failed'; error: unknown } | undefined
  #progress = Promise.withResolvers<void>()
  #readers = 0

  private constructor(handle: FileHandle, options: DownloadOptions) {
    this.#handle = handle
    this.size = options.size
    this.file = options.file
    this.#unreadMs = options.unreadMs
  }

  static async create(options: DownloadOptions): Promise<Download> {
    return new Download(await open(options.file, 'wx+', 0o600), options)
  }

  /** Bytes on disk, in order from the first. */
  get received(): number {
    return this.#received
  }

  /** Aborted when its readers have left it for a while. */
  get unread(): AbortSignal {
    return this.#unread.signal
  }

  /** Resolves when the bytes are with the file system: back-pressure for the fetch. */
  async append(bytes: Uint8Array): Promise<void> {
    if (this.#received + bytes.length > this.size) {
      throw new HearthError(
        'corrupt',
        `the registry sends more than the promised ${this.size} bytes`,
      )
    }
    let written = 0
    while (written < bytes.length) {
      const { bytesWritten } = await this.#handle.write(bytes, written, undefined, this.#received)
      written += bytesWritten
      this.#received += bytesWritten
    }
    this.#tell()
  }

  /** Ends it; the file goes, readers that have begun keep what is open. */
  async end(end: { type: 'kept' } | { type: 'failed'; error: unknown }): Promise<void> {
    await rm(this.file, { force: true })
    this.#end = end
    clearTimeout(this.#unreadTimer)
    this.#tell()
    await this.#closeIfDone()
  }

  /** Follows the download; destroying the stream is leaving it. */
  read(range: ByteRange | undefined, signal: AbortSignal): Readable {
    this.#readers += 1
    clearTimeout(this.#unreadTimer)
    let left = false
    const leave = (): void => {
      if (left) return
      left = true
      this.#readers -= 1
      if (this.#readers === 0) this.#startUnreadTimer()
      void this.#closeIfDone()
    }
    const stream = Readable.from(this.#pieces(range, signal), { objectMode: false })
    return stream.once('close', leave)
  }

  async *#pieces(range: ByteRange | undefined, signal: AbortSignal): AsyncGenerator<Buffer> {
    let position = range?.start ?? 0
    const behind = (range?.end ?? this.size - 1) + 1
    const stop = Promise.withResolvers<void>()
    const abort = (): void => stop.resolve()
    signal.addEventListener('abort', abort, { once: true })
    try {
      while (position < behind) {
        signal.throwIfAborted()
        if (this.#end?.type === 'failed') throw this.#end.error
        const safe =
          this.#end?.type === 'kept' ? this.size : Math.min(this.#received, this.size - 1)
        const length = Math.min(safe, behind, position + pieceBytes) - position
        if (length <= 0) {
          await Promise.race([this.#progress.promise, stop.promise])
          continue
        }
        const piece = Buffer.allocUnsafe(length)
        const { bytesRead } = await this.#handle.read(piece, 0, length, position)
        position += bytesRead
        yield piece.subarray(0, bytesRead)
      }
    } finally {
      signal.removeEventListener('abort', abort)
    }
  }

  #startUnreadTimer(): void {
    if (this.#end !== undefined) return
    clearTimeout(this.#unreadTimer)
    this.#unreadTimer = setTimeout(
      () => this.#unread.abort(new HearthError('cancelled', 'nobody reads this blob any more')),
      this.#unreadMs,
    ).unref()
  }

  #tell(): void {
    const told = this.#progress
    this.#progress = Promise.withResolvers<void>()
    told.resolve()
  }

  #closing: Promise<void> | undefined
  async #closeIfDone(): Promise<void> {
    if (this.#end === undefined || this.#readers > 0) return
    this.#closing ??= this.#handle.close()
    await this.#closing
  }
}

export interface DownloadOptions {
  readonly size: number
  /** Made by the download, which removes it again. */
  readonly file: string
  readonly unreadMs: number
}
