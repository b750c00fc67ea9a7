/** The in-memory twin of a bucket: each request takes effect at once, at a moment that the test may choose. */
import { randomUUID } from 'node:crypto'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { digestOf } from '../../../core/digest.ts'
import { HearthError } from '../../../core/errors.ts'
import type { Bucket, ListedObject } from './bucket.ts'
import type { ServerClock } from './server-clock.ts'

export interface BucketInMemory {
  readonly bucket: Bucket
  readonly clock: ServerClock
  keys(): string[]
}

/**
 * @param options.turn waited for before and after each request takes effect. Default: nothing.
 */
export function createBucketInMemory(
  options: { turn?: (doing: string) => Promise<void> } = {},
): BucketInMemory {
  const { turn = async () => {} } = options
  const objects = new Map<string, { bytes: Buffer; modifiedMs: number }>()
  /** Time goes on with what is written, by a second each. */
  let nowMs = Date.UTC(2030, 0, 1)

  async function request<T>(doing: string, effect: () => T): Promise<T> {
    await turn(doing)
    const answer = effect()
    await turn(`${doing}: answer`)
    return answer
  }
  const factsOf = (key: string): ListedObject | undefined => {
    const object = objects.get(key)
    if (object === undefined) return undefined
    const { bytes, modifiedMs } = object
    return { key, size: bytes.length, etag: digestOf(bytes), modifiedMs }
  }
  const write = (key: string, bytes: Uint8Array) => {
    nowMs += 1000
    objects.set(key, { bytes: Buffer.from(bytes), modifiedMs: nowMs })
    return { etag: digestOf(bytes) }
  }

  const bucket: Bucket = {
    async *list(folder) {
      yield await request(`list ${folder}`, () =>
        [...objects.keys()]
          .filter((key) => key.startsWith(folder))
          .sort()
          .flatMap((key) => factsOf(key) ?? []),
      )
    },
    head: (key) => request(`head ${key}`, () => factsOf(key)),
    get: (key, { bytesMax }) =>
      request(`get ${key}`, () => {
        const bytes = objects.get(key)?.bytes
        if (bytes === undefined) return undefined
        if (bytes.length > bytesMax) throw new HearthError('corrupt', 'too large')
        return { bytes, etag: digestOf(bytes) }
      }),
    open: (key) =>
      request(`open ${key}`, () => {
        const bytes = objects.get(key)?.bytes
        return bytes && Readable.from([bytes])
      }),
    put: (key, bytes) => request(`put ${key}`, () => write(key, bytes)),
    async upload(key, source) {
      const bytes = await buffer(source)
      await request(`upload ${key}`, () => write(key, bytes))
    },
    remove: (key) => request(`remove ${key}`, () => void objects.delete(key)),
    presign: async (key) => `memory:${key}?${randomUUID()}`,
    async *unfinished() {},
    abandon: async () => {},
  }
  return {
    bucket,
    clock: { observe() {}, nowMs: () => nowMs + 1 },
    keys: () => [...objects.keys()].sort(),
  }
}
