/**
 * The objects of one place in an object store, by keys without its prefix. Absence is an answer; whatever else
 * goes wrong is a HearthError with its remedy, and rests the circuit of reading or of writing.
 */
import type { Readable } from 'node:stream'
import {
  AbortMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  PutObjectCommand,
} from '@aws-sdk/client-s3'
import { Upload } from '@aws-sdk/lib-storage'
import { getSignedUrl } from '@aws-sdk/s3-request-presigner'
import { HearthError } from '../../../core/errors.ts'
import type { Circuit } from './circuit.ts'
import type { ObjectStoreClient } from './client.ts'
import { isAbsence, toStoreError } from './failures.ts'
import type { BucketLocation } from './location.ts'

export interface Bucket {
  /** Pages of up to 1,000 in the order of their keys. */
  list(folder: string, options: { signal: AbortSignal }): AsyncIterable<ListedObject[]>
  head(key: string, options: { signal: AbortSignal }): Promise<ObjectFacts | undefined>
  /** @throws HearthError `corrupt` when it is larger than `bytesMax`, `unavailable` when it breaks off. */
  get(
    key: string,
    options: { bytesMax: number; signal: AbortSignal },
  ): Promise<{ bytes: Buffer; etag: string } | undefined>
  open(key: string, options: { signal: AbortSignal }): Promise<Readable | undefined>
  put(key: string, bytes: Uint8Array, options: { signal: AbortSignal }): Promise<{ etag: string }>
  /** In parts where it is large; visible when it is whole. */
  upload(key: string, source: Readable, options: { signal: AbortSignal }): Promise<void>
  /** Of what is not there, too. */
  remove(key: string, options: { signal: AbortSignal }): Promise<void>
  presign(key: string, options: { expiresS: number }): Promise<string>
  /** Uploads in parts that nobody has finished. */
  unfinished(
    folder: string,
    options: { signal: AbortSignal },
  ): AsyncIterable<{ key: string; id: string; startedMs: number }[]>
  abandon(upload: { key: string; id: string }, options: { signal: AbortSignal }): Promise<void>
}

export interface ObjectFacts {
  readonly size: number
  readonly etag: string
  /** By the server's clock, to a second. */
  readonly modifiedMs: number
}

export interface ListedObject extends ObjectFacts {
  readonly key: string
}

export interface BucketOptions extends BucketLocation {
  partBytes: number
}

/** Everything but uploads, which end by `stallMs`. */
const answerMs = 60_000

/** Parts of one blob on their way at once. */
const partsMax = 2

/** One request that reads, for a circuit that wants to know whether the trouble is over. */
export async function probeBucket(
  { sdk }: ObjectStoreClient,
  { bucket, prefix }: BucketLocation,
  options: { signal: AbortSignal },
): Promise<void> {
  const signal = AbortSignal.any([options.signal, AbortSignal.timeout(answerMs)])
  const command = new ListObjectsV2Command({ Bucket: bucket, Prefix: prefix, MaxKeys: 1 })
  try {
    await sdk.send(command, { abortSignal: signal })
  } catch (error) {
    throw toStoreError(error, `list s3://${bucket}`)
  }
}

export function createBucket(
  deps: { client: ObjectStoreClient; reading: Circuit; writing: Circuit },
  { bucket, prefix, partBytes }: BucketOptions,
): Bucket {
  const { reading, writing } = deps
  const { sdk, clock } = deps.client
  const place = `s3://${bucket}/${prefix}`

  async function attempt<T>(
    circuit: Circuit,
    doing: string,
    signal: AbortSignal,
    work: (options: { abortSignal: AbortSignal }) => Promise<T>,
  ): Promise<T> {
    return await circuit.run(async () => {
      const timeout = AbortSignal.timeout(answerMs)
      try {
        return await work({ abortSignal: AbortSignal.any([signal, timeout]) })
      } catch (error) {
        throw afterAbort(error, { doing, signal, timeout })
      }
    })
  }

  /** Like `attempt`, where "there is no such thing" is an answer. */
  function look<T>(
    doing: string,
    signal: AbortSignal,
    work: (options: { abortSignal: AbortSignal }) => Promise<T>,
  ): Promise<T | undefined> {
    return attempt(reading, doing, signal, async (options) => {
      try {
        return await work(options)
      } catch (error) {
        if (isAbsence(error)) return undefined
        throw error
      }
    })
  }

  const objectOf = (key: string) => ({ Bucket: bucket, Key: prefix + key })

  return {
    async *list(folder, { signal }) {
      let token: string | undefined
      do {
        const page = await attempt(reading, `list ${place}${folder}`, signal, (options) =>
          sdk.send(
            new ListObjectsV2Command({
              Bucket: bucket,
              Prefix: prefix + folder,
              ...(token === undefined ? {} : { ContinuationToken: token }),
            }),
            options,
          ),
        )
        yield (page.Contents ?? []).map(({ Key = '', Size = 0, ETag = '', LastModified }) => ({
          key: Key.slice(prefix.length),
          size: Size,
          etag: ETag,
          modifiedMs: wholeSeconds(LastModified),
        }))
        token = page.IsTruncated === true ? page.NextContinuationToken : undefined
      } while (token !== undefined)
    },

    head: (key, { signal }) =>
      look(`look at ${place}${key}`, signal, async (options) => {
        const found = await sdk.send(new HeadObjectCommand(objectOf(key)), options)
        return {
          size: found.ContentLength ?? 0,
          etag: found.ETag ?? '',
          modifiedMs: wholeSeconds(found.LastModified),
        }
      }),

    get: (key, { bytesMax, signal }) =>
      look(`read ${place}${key}`, signal, async (options) => {
        const {
          Body,
          ETag = '',
          ContentLength,
        } = await sdk.send(new GetObjectCommand(objectOf(key)), options)
        const bytes = await readAll(Body as Readable, bytesMax)
        if (ContentLength !== undefined && bytes.length !== ContentLength) {
          throw new HearthError('unavailable', `${place}${key} broke off`)
        }
        return { bytes, etag: ETag }
      }),

    async open(key, { signal }) {
      // No limit for the whole: a stream that stalls ends after `stallMs`.
      return await reading.run(async () => {
        try {
          const command = new GetObjectCommand(objectOf(key))
          const { Body } = await sdk.send(command, { abortSignal: signal })
          return Body as Readable
        } catch (error) {
          if (isAbsence(error)) return undefined
          throw afterAbort(error, { doing: `read ${place}${key}`, signal })
        }
      })
    },

    put: (key, bytes, { signal }) =>
      attempt(writing, `write ${place}${key}`, signal, async (options) => {
        const command = new PutObjectCommand({ ...objectOf(key), Body: bytes })
        const { ETag = '' } = await sdk.send(command, options)
        return { etag: ETag }
      }),

    async upload(key, source, { signal }) {
      await writing.run(async () => {
        const cancelled = new AbortController()
        const abort = () => cancelled.abort(signal.reason)
        signal.addEventListener('abort', abort, { once: true })
        try {
          signal.throwIfAborted()
          const upload = new Upload({
            client: sdk,
            params: { ...objectOf(key), Body: source },
            partSize: partBytes,
            queueSize: partsMax,
            abortController: cancelled,
          })
          await upload.done()
        } catch (error) {
          throw afterAbort(error, { doing: `write ${place}${key}`, signal })
        } finally {
          signal.removeEventListener('abort', abort)
          source.destroy()
        }
      })
    },

    remove: (key, { signal }) =>
      attempt(writing, `remove ${place}${key}`, signal, async (options) => {
        try {
          await sdk.send(new DeleteObjectCommand(objectOf(key)), options)
        } catch (error) {
          if (!isAbsence(error)) throw error
        }
      }),

    async presign(key, { expiresS }) {
      const nowMs = clock.nowMs()
      try {
        return await getSignedUrl(sdk, new GetObjectCommand(objectOf(key)), {
          expiresIn: expiresS,
          // The server judges by its own clock when the URL is over.
          ...(nowMs === undefined ? {} : { signingDate: new Date(nowMs) }),
        })
      } catch (error) {
        throw toStoreError(error, `sign a URL of ${place}${key}`)
      }
    },

    async *unfinished(folder, { signal }) {
      let marker: { KeyMarker: string; UploadIdMarker: string } | undefined
      do {
        const page = await attempt(
          reading,
          `list uploads of ${place}${folder}`,
          signal,
          (options) =>
            sdk.send(
              new ListMultipartUploadsCommand({
                Bucket: bucket,
                Prefix: prefix + folder,
                ...marker,
              }),
              options,
            ),
        )
        yield (page.Uploads ?? []).flatMap(({ Key, UploadId, Initiated }) =>
          Key === undefined || UploadId === undefined || Initiated === undefined
            ? []
            : [{ key: Key.slice(prefix.length), id: UploadId, startedMs: Initiated.getTime() }],
        )
        const { NextKeyMarker: KeyMarker, NextUploadIdMarker: UploadIdMarker } = page
        const isMore = page.IsTruncated === true && KeyMarker !== undefined
        marker = isMore ? { KeyMarker, UploadIdMarker: UploadIdMarker ?? '' } : undefined
      } while (marker !== undefined)
    },

    abandon: ({ key, id }, { signal }) =>
      attempt(writing, `abandon an upload of ${place}${key}`, signal, async (options) => {
        try {
          const command = new AbortMultipartUploadCommand({ ...objectOf(key), UploadId: id })
          await sdk.send(command, options)
        } catch (error) {
          if (!isAbsence(error)) throw error
        }
      }),
  }
}

/** A header tells seconds, a listing may tell more. */
function wholeSeconds(date: Date | undefined): number {
  return Math.floor((date?.getTime() ?? 0) / 1000) * 1000
}

function afterAbort(
  error: unknown,
  { doing, signal, timeout }: { doing: string; signal: AbortSignal; timeout?: AbortSignal },
): HearthError {
  if (signal.aborted) {
    return new HearthError('cancelled', `${doing}: cancelled`, { cause: signal.reason })
  }
  if (timeout?.aborted === true) {
    return new HearthError('unavailable', `cannot ${doing}: no answer in ${answerMs / 1000} s`, {
      hint: 'check the network between this machine and the object store',
      cause: error,
    })
  }
  return toStoreError(error, doing)
}

async function readAll(source: Readable, bytesMax: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of source as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > bytesMax) {
      source.destroy()
      throw new HearthError(
        'corrupt',
        `an object has more than the ${bytesMax} bytes that it may have`,
      )
    }
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}
