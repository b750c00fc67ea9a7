/** Blobs by digest: HEAD and GET, with single ranges and conditions; DELETE. */
import { Readable } from 'node:stream'
import { type Digest, isDigest } from '../../../core/digest.ts'
import { describeError } from '../../../core/errors.ts'
import type { Logger } from '../../../core/log.ts'
import type { CacheStore } from '../../cache-store/index.ts'
import type { Holds } from './adoption.ts'
import { type BlobSource, deliverBlob } from './deliver.ts'
import { answer, type Exchange } from './exchange.ts'
import { isAnyDigest } from './manifest-document.ts'
import {
  blobUnknown,
  digestInvalid,
  methodUnsupported,
  type Refusal,
  refuse,
} from './oci-errors.ts'

export interface BlobDeps {
  store: CacheStore
  holds: Holds
  log: Logger
}

export async function serveBlob(deps: BlobDeps, exchange: Exchange, text: string): Promise<void> {
  const { grant, response } = exchange
  if (!isDigest(text)) return refuse(response, unknownName(text))
  const source = await findSource(deps, exchange, text)
  if (source === undefined) {
    grant.couldNotDeliver(text)
    return refuse(response, blobUnknown)
  }
  await deliverBlob(exchange, text, source, (error) => {
    grant.couldNotDeliver(text)
    if (error === undefined) return
    deps.log.warn({ digest: text, error: describeError(error) }, 'a blob broke off')
  })
}

/** Of another algorithm there is nothing here; what is no digest at all is a mistake. */
function unknownName(text: string): Refusal {
  if (isAnyDigest(text)) return blobUnknown
  return digestInvalid(`"${text.slice(0, 100)}" is not a digest`)
}

/** DELETE, by a client that keeps: the scope forgets the blob. A build that has it pinned may finish with it. */
export async function removeBlob(
  { store }: Pick<BlobDeps, 'store'>,
  { grant, response }: Exchange,
  text: string,
): Promise<void> {
  if (grant.tags !== 'of the scope') return refuse(response, methodUnsupported(['GET', 'HEAD']))
  if (!isDigest(text)) return refuse(response, unknownName(text))
  if (store.stat(grant.scope, text) === undefined) return refuse(response, blobUnknown)
  grant.pin.drop(text)
  await store.remove(grant.scope, text)
  answer(response, 202)
}

async function findSource(
  deps: BlobDeps,
  { grant, signal }: Exchange,
  digest: Digest,
): Promise<BlobSource | undefined> {
  const document = grant.documents.get(digest)
  if (document !== undefined) {
    const { bytes, mediaType } = document
    return {
      size: bytes.length,
      mediaType,
      open: async (range) => {
        const part = bytes.subarray(range?.start ?? 0, (range?.end ?? bytes.length - 1) + 1)
        return Readable.from(part.length === 0 ? [] : [Buffer.from(part)])
      },
      onBytes: () => {},
    }
  }
  if (grant.right === 'write' && !(await deps.holds(grant, digest))) return undefined
  const held = deps.store.stat(grant.scope, digest)
  if (held === undefined) return undefined
  return {
    size: held.size,
    mediaType: 'application/octet-stream',
    open: (range) => deps.store.open(grant.scope, digest, { ...range, signal }),
    onBytes: (count) => {
      grant.bytesRead += count
    },
  }
}
