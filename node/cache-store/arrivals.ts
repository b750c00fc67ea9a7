/** The ways in: bytes written here, another program's file, a file that came from elsewhere, a further owner. */
import { lstat } from 'node:fs/promises'
import type { Digest } from '../../core/digest.ts'
import { HearthError, toHearthError } from '../../core/errors.ts'
import type { ScopeId } from '../../core/scope.ts'
import { adoptFile } from './adopt.ts'
import type { BlobFiles } from './blob-files.ts'
import type { Departures } from './departures.ts'
import type { Gate } from './gate.ts'
import type { Hasher } from './hasher.ts'
import type { Holdings } from './holdings.ts'
import type { AdoptOutcome, BlobInfo, BlobWriter } from './index.ts'
import type { Holding } from './index-keys.ts'
import type { LastUse } from './last-use.ts'
import type { PinCounts } from './pins.ts'
import type { CrashPoint, Publication } from './publication.ts'
import type { Upkeep } from './upkeep.ts'
import { createBlobWriter } from './writer.ts'

export interface Arrivals {
  createWriter(scope: ScopeId): Promise<BlobWriter>
  adopt(holding: Holding, file: string, options: { signal: AbortSignal }): Promise<AdoptOutcome>
  take(scope: ScopeId, blob: BlobInfo, file: string): Promise<void>
  own(holding: Holding): Promise<BlobInfo | undefined>
}

export function createArrivals(deps: {
  files: BlobFiles
  gate: Gate
  hasher: Hasher
  holdings: Holdings
  lastUse: LastUse
  pins: PinCounts
  publication: Publication
  departures: Departures
  upkeep: Upkeep
  atPoint: (point: CrashPoint) => void | Promise<void>
}): Arrivals {
  const { files, gate, hasher, holdings, lastUse, publication, upkeep, atPoint } = deps

  /**
   * Guards what is about to be there, and for a turn longer than disposal: eviction that runs meanwhile would find
   * it unused, and a project that is over its limit has nothing else to lose.
   */
  const arrival = (holding: Holding): Disposable => {
    const guard = deps.pins.guard(holding.digest)
    return {
      [Symbol.dispose]() {
        setImmediate(() => {
          guard[Symbol.dispose]()
          deps.departures.dropIfLoose(holding.digest)
          if (gate.isOpen) upkeep.evictIfOver(holding.scope)
        })
      },
    }
  }

  const publish: Publication['publish'] = async (scope, temporary, blob) => {
    await publication.publish(scope, temporary, blob)
    upkeep.evictIfOver(scope)
  }

  return {
    async createWriter(scope) {
      const arrivals = new DisposableStack()
      const writer = await createBlobWriter({ files, gate, publish }, scope)
      return {
        get size() {
          return writer.size
        },
        write: writer.write,
        commit(digest) {
          arrivals.use(arrival({ scope, digest }))
          return writer.commit(digest)
        },
        async [Symbol.asyncDispose]() {
          await writer[Symbol.asyncDispose]()
          arrivals.dispose()
        },
      }
    },

    async adopt(holding, file, options) {
      const size = holdings.owns(holding) ? holdings.size(holding.digest) : undefined
      if (size !== undefined) {
        lastUse.touch(holding)
        return { type: 'already held', size }
      }
      const adopting = { files, hasher, publication: { ...publication, publish }, atPoint }
      using _arrival = arrival(holding)
      return await adoptFile(adopting, { ...holding, file }, options)
    },

    async take(scope, blob, file) {
      using _arrival = arrival({ scope, digest: blob.digest })
      try {
        await requireSize(file, blob)
        await publish(scope, file, blob)
      } finally {
        await files.discard(file)
      }
    },

    async own(holding) {
      const blob = await holdings.extend(holding.scope, holding.digest)
      if (blob !== undefined) upkeep.evictIfOver(holding.scope)
      return blob
    },
  }
}

/** The row would say another size than the file has: the next start would throw both away. */
async function requireSize(
  file: string,
  { digest, size }: { digest: Digest; size: number },
): Promise<void> {
  const stat = await lstat(file).catch((error: unknown) => {
    throw toHearthError(error, `take ${file}`)
  })
  if (stat.isFile() && stat.size === size) return
  throw new HearthError('corrupt', `the file of ${digest} has ${stat.size} bytes, not ${size}`)
}
