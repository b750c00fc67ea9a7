/** Whether a node could use an object store: each kind of request once, on an object of its own. For the doctor. */
import { randomUUID } from 'node:crypto'
import { HearthError } from '../../../core/errors.ts'
import { silentLogger } from '../../../core/log.ts'
import { createBucket, probeBucket } from './bucket.ts'
import { createCircuit } from './circuit.ts'
import { createClient } from './client.ts'
import type { S3TierOptions } from './index.ts'
import { parseBucketUrl } from './location.ts'

const limits = { connectMs: 3_000, stallMs: 5_000 }
const rest = { restMs: 1_000, restMsMax: 1_000 }
const content = Buffer.from('hearth doctor was here\n')

/** @throws HearthError with what it refuses, and the remedy. */
export async function checkObjectStore(
  options: Pick<S3TierOptions, 'url' | 'endpoint' | 'region' | 'credentials'>,
  { signal }: { signal: AbortSignal },
): Promise<void> {
  const location = parseBucketUrl(options.url)
  using client = createClient(options, limits)
  using reading = createCircuit({ log: silentLogger }, { what: 'reading from it', ...rest })
  using writing = createCircuit({ log: silentLogger }, { what: 'writing to it', ...rest })
  const bucket = createBucket({ client, reading, writing }, { ...location, partBytes: 0 })
  const key = `doctor-${randomUUID()}`
  await probeBucket(client, location, { signal })
  await bucket.put(key, content, { signal })
  const found = await bucket.get(key, { bytesMax: content.length, signal })
  await bucket.remove(key, { signal })
  if (found?.bytes.equals(content) === true) return
  throw new HearthError('corrupt', `${options.url} does not give back what was put there`, {
    hint: 'Hearth needs an object store that shows an object as soon as it is written',
  })
}
