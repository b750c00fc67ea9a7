/**
 * Blobs that a grant promises and that may be elsewhere. A reader is brought what it asks for, once it asks; a writer
 * is told that it need not push them, so that an export moves nothing here that nobody needs here.
 */
import { z } from 'zod'
import { type Digest, isDigest } from '../../../core/digest.ts'
import { describeError, HearthError } from '../../../core/errors.ts'
import { mib } from '../../../core/limits.ts'
import { scopeId } from '../../../core/scope.ts'
import type { BlobInfo } from '../../cache-store/index.ts'
import type { LiveGrant } from './grants.ts'
import type { GrantDocument, PromisedBlobs, RegistryDeps } from './index.ts'

export interface Promises {
  /** A blob that the grant promises and that is somewhere, as far as is known. */
  find(grant: LiveGrant, digest: Digest): BlobInfo | undefined
  /**
   * Resolves to whether a promised blob is in the store now, pinned until the grant ends.
   * @throws HearthError `cancelled` when the reader has gone, `exhausted` when the disk is full.
   */
  bring(grant: LiveGrant, blob: BlobInfo, options: { signal: AbortSignal }): Promise<boolean>
}

/**
 * How long a reader waits for a blob. A client waits with it, so it ends before the steps behind the layer could be
 * run again, as far as anybody can say that: slower than this they usually are not.
 */
const waitMs = 20_000
const bytesPerSMin = 4 * mib

export function createPromises(
  deps: Pick<RegistryDeps, 'sources' | 'log'>,
  options: {
    /** The connection of the reader is cut after that. */
    waitMsMax: number
  },
): Promises {
  const { sources, log } = deps
  return {
    find(grant, digest) {
      const blob = grant.promised(digest)
      if (blob === undefined || sources === undefined) return undefined
      return sources.whereabouts(grant.scope, blob) === undefined ? undefined : blob
    },
    async bring(grant, blob, { signal }) {
      if (sources === undefined) return false
      const usefulMs = waitMs + (blob.size / bytesPerSMin) * 1000
      const limitMs = Math.ceil(Math.min(usefulMs, options.waitMsMax))
      const limit = AbortSignal.timeout(limitMs)
      const fields = { scope: scopeId(grant.scope), digest: blob.digest }
      try {
        const both = AbortSignal.any([signal, limit])
        const outcome = await sources.bring(grant.scope, blob, { signal: both })
        if (outcome.type === 'missed') return false
        if (outcome.type === 'brought') grant.noteBrought(blob.digest, outcome.bytesBySource)
        grant.pin.add([blob.digest])
        return true
      } catch (error) {
        const isLate = limit.aborted && !signal.aborted
        if (!isLate || !(error instanceof HearthError) || error.code !== 'cancelled') throw error
        log.warn({ ...fields, limitMs, error: describeError(error) }, 'a blob came too slowly')
        return false
      }
    },
  }
}

const manifestShape = z.looseObject({
  layers: z
    .array(z.looseObject({ digest: z.string().refine(isDigest), size: z.int().nonnegative() }))
    .optional(),
})

/** The layers that the manifests among these documents list. They are read when the first blob is asked for. */
export function promisesOf(documents: readonly GrantDocument[]): PromisedBlobs {
  let blobs: ReadonlyMap<Digest, BlobInfo> | undefined
  return (digest) => {
    blobs ??= new Map(documents.flatMap(layersOf).map((blob) => [blob.digest, blob]))
    return blobs.get(digest)
  }
}

function layersOf({ tag, bytes }: GrantDocument): BlobInfo[] {
  if (tag === undefined) return []
  const { layers = [] } = manifestShape.parse(JSON.parse(Buffer.from(bytes).toString()))
  return layers.map(({ digest, size }) => ({ digest, size }))
}
