/** Blobs by digest: HEAD and GET, with single ranges and conditions; DELETE. */
import { Readable } from 'node:stream'
import { type Digest, isDigest } from '../../../core/digest.ts'
import { describeError } from '../../../core/errors.ts'
import type { Logger } from '../../../core/log.ts'
import type { BlobInfo, CacheStore } from '../../cache-store/index.ts'
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
import type { Promises } from './promises.ts'
import type { ByteRange } from './ranges.ts'

export interface BlobDeps {
  store: CacheStore
  holds: Holds
  promises: Promises
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
  const held = await findHeld(deps, grant, digest)
  const blob = held ?? deps.promises.find(grant, digest)
  if (blob === undefined) return undefined
  return {
    size: blob.size,
    mediaType: 'application/octet-stream',
    open: (range) => openOrBring(deps, { grant, signal }, blob, range),
    onBytes: (count) => {
      grant.bytesRead += count
    },
  }
}

async function findHeld(
  { store, holds }: BlobDeps,
  grant: Exchange['grant'],
  digest: Digest,
): Promise<BlobInfo | undefined> {
  if (grant.right === 'write' && !(await holds(grant, digest))) return undefined
  return store.stat(grant.scope, digest)
}

/** What the store has lost, or never had, may be elsewhere. */
async function openOrBring(
  { store, promises }: BlobDeps,
  { grant, signal }: Pick<Exchange, 'grant' | 'signal'>,
  { digest, size }: BlobInfo,
  range: ByteRange | undefined,
): Promise<Readable | undefined> {
  const open = () => store.open(grant.scope, digest, { ...range, signal })
  const held = await open()
  if (held !== undefined) return held
  const promised = promises.find(grant, digest)
  if (promised?.size !== size || !(await promises.bring(grant, promised, { signal }))) {
    return undefined
  }
  return await open()
}
