/** One try to bring a blob into the store: from sources by the exchange, or straight out of the object store. */
import { rm } from 'node:fs/promises'
import { describeError, HearthError, toHearthError } from '../../../core/errors.ts'
import { type Scope, scopeId } from '../../../core/scope.ts'
import type { BlobSource, Exchange, SourceFault } from '../../../mesh/exchange/index.ts'
import type { BlobInfo } from '../index.ts'
import type { BlobSourcesDeps, Brought } from './index.ts'

export type Attempt = Exclude<Brought, { type: 'held' }>

export interface Wanted {
  readonly scope: Scope
  readonly blob: BlobInfo
  readonly signal: AbortSignal
}

type S3 = NonNullable<BlobSourcesDeps['s3']>

/**
 * @param deps.onFault told of each source that was at fault.
 * @throws HearthError `cancelled`, `exhausted`
 */
export async function tryExchange(
  deps: Pick<BlobSourcesDeps, 'store' | 'log'> & {
    exchange: Pick<Exchange, 'fetch'>
    onFault: (fault: SourceFault) => void
  },
  { scope, blob, signal }: Wanted,
  sources: readonly BlobSource[],
): Promise<Attempt> {
  const file = deps.store.temporaryFile()
  try {
    const request = { scope, ...blob, file, sources, isSynced: true, signal }
    const outcome = await deps.exchange.fetch(request)
    for (const fault of outcome.faults) deps.onFault(fault)
    if (outcome.type === 'failed') {
      const reasons = outcome.faults.map(({ source, message }) => `${source}: ${message}`)
      return { type: 'missed', reason: reasons.join('; ') }
    }
    await deps.store.take(scope, blob, file)
    return { type: 'brought', bytesBySource: outcome.bytesBySource }
  } catch (error) {
    await rm(file, { force: true })
    return failed(deps, { scope, blob }, error)
  }
}

/** For an object store of which no URL can be made. @throws HearthError `cancelled`, `exhausted` */
export async function tryReading(
  deps: Pick<BlobSourcesDeps, 'store' | 'log'> & { s3: S3; onFault: (fault: SourceFault) => void },
  { scope, blob, signal }: Wanted,
): Promise<Attempt> {
  const { store, s3 } = deps
  const missed = (reason: SourceFault['reason'], message: string): Attempt => {
    deps.onFault({ source: s3.name, reason, message })
    return { type: 'missed', reason: `${s3.name}: ${message}` }
  }
  try {
    const stream = await s3.read(blob, { signal })
    if (stream === undefined) return missed('absent', 'there is no such object')
    await using writer = await store.createWriter(scope)
    for await (const bytes of stream as AsyncIterable<Buffer>) await writer.write(bytes)
    await writer.commit(blob.digest)
    return { type: 'brought', bytesBySource: new Map([[s3.name, writer.size]]) }
  } catch (error) {
    const { code, message } = toHearthError(error)
    if (code === 'corrupt') return missed('wrong bytes', 'what it sent does not hash to the digest')
    if (code === 'unavailable' || code === 'deadline') return missed('unreachable', message)
    return failed(deps, { scope, blob }, error)
  }
}

/** Trouble of this node itself: a miss and a log line, unless the asker is to know. */
function failed(
  { log }: Pick<BlobSourcesDeps, 'log'>,
  { scope, blob }: Omit<Wanted, 'signal'>,
  error: unknown,
): Attempt {
  const known = toHearthError(error)
  if (known.code === 'cancelled' || known.code === 'exhausted') throw known
  const fields = { scope: scopeId(scope), digest: blob.digest, error: describeError(error) }
  log.error(fields, 'this node could not take a blob')
  return { type: 'missed', reason: `this node: ${known.message}` }
}

/** Undefined when no URL can be made. */
export async function farSource(
  { s3, log }: Pick<BlobSourcesDeps, 's3' | 'log'>,
  { digest }: BlobInfo,
): Promise<BlobSource | undefined> {
  if (s3 === undefined) return undefined
  try {
    return { type: 'url', name: s3.name, url: await withinLimit(s3.urlOf(digest)) }
  } catch (error) {
    log.debug({ digest, error: describeError(error) }, 'no URL for an object')
    return undefined
  }
}

/** A URL is made here; only credentials may have to be asked for. */
const urlMsMax = 5_000

async function withinLimit<T>(answer: Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const late = () => reject(new HearthError('deadline', `no answer in ${urlMsMax / 1000} s`))
  const timer = setTimeout(late, urlMsMax)
  try {
    return await Promise.race([answer, promise])
  } finally {
    clearTimeout(timer)
  }
}
