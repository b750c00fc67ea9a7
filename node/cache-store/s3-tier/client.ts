/**
 * The SDK's client, set up for any S3 server: path style beside an endpoint, checksums only where the protocol asks
 * for them (servers that lack the newest refuse them), timeouts on everything, and a bounded number of sockets.
 */
import { S3Client } from '@aws-sdk/client-s3'
import type { S3TierOptions } from './index.ts'
import { parseEndpoint } from './location.ts'
import { createServerClock, type ServerClock } from './server-clock.ts'

export interface ObjectStoreClient extends Disposable {
  readonly sdk: S3Client
  readonly clock: ServerClock
}

/** Requests beyond it wait for a socket; uploads, listings and the sweep together. */
export const socketsMax = 24

/** A part on a slow line: longer than any that makes progress. What makes none ends after `stallMs`. */
const requestMs = 10 * 60_000

/** The SDK waits with jitter between them, up to 20 s. */
const attemptsMax = 3

/** The SDK must not write to the console by itself. */
const silent = { trace() {}, debug() {}, info() {}, warn() {}, error() {} }

/** @throws HearthError `invalid-input` when the endpoint is none. */
export function createClient(
  options: Pick<S3TierOptions, 'endpoint' | 'region' | 'credentials'>,
  { connectMs, stallMs }: { connectMs: number; stallMs: number },
): ObjectStoreClient {
  const { endpoint, region, credentials } = options
  const { AWS_REGION, AWS_DEFAULT_REGION } = process.env
  const sdk = new S3Client({
    region: region ?? AWS_REGION ?? AWS_DEFAULT_REGION ?? 'us-east-1',
    followRegionRedirects: endpoint === undefined,
    ...(endpoint === undefined ? {} : { endpoint: parseEndpoint(endpoint), forcePathStyle: true }),
    ...(credentials === undefined ? {} : { credentials }),
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    maxAttempts: attemptsMax,
    logger: silent,
    requestHandler: {
      connectionTimeout: connectMs,
      socketTimeout: stallMs,
      requestTimeout: requestMs,
      throwOnRequestTimeout: true,
      httpAgent: { keepAlive: true, maxSockets: socketsMax },
      httpsAgent: { keepAlive: true, maxSockets: socketsMax },
      logger: silent,
    },
  })
  const clock = createServerClock()
  sdk.middlewareStack.add(
    (next) => async (request) => {
      const result = await next(request)
      const { headers } = result.response as { headers?: Record<string, string> }
      if (headers?.date !== undefined) clock.observe(headers.date)
      return result
    },
    // Beside the wire: before an error answer is made an error.
    { step: 'deserialize', priority: 'low', name: 'observeServerDate' },
  )
  return { sdk, clock, [Symbol.dispose]: () => sdk.destroy() }
}
