/** One blob from its sources into a verified file, whatever some of the sources do. */
import { rm } from 'node:fs/promises'
import type { Digest } from '../../core/digest.ts'
import type { BlockPool } from './block-pool.ts'
import { type CrewDeps, sourceName, workTogether } from './crew.ts'
import { createGrowingFile } from './growing-file.ts'
import type { BlobSource, FetchOutcome, SourceFault, TransferLimits } from './index.ts'
import { createPiecePlan } from './piece-plan.ts'

export interface DownloadDeps extends Pick<CrewDeps, 'connect'> {
  blocks: BlockPool
}

export interface DownloadRequest {
  digest: Digest
  size: number
  file: string
  sources: readonly BlobSource[]
  limits: TransferLimits
  signal: AbortSignal
}

/**
 * Bytes that do not hash to the digest may come from any of those who brought some. Then the sources are asked
 * one by one: who alone brings wrong bytes has lied, and once somebody brings the right ones, so has everybody
 * whose pieces differ from them.
 *
 * @returns `failed` when no source delivered; the file is then gone.
 * @throws what writing the file throws, and the signal's reason.
 */
export async function downloadBlob(
  deps: DownloadDeps,
  request: DownloadRequest,
): Promise<FetchOutcome> {
  const faults: SourceFault[] = []
  const suspects: BroughtPiece[] = []
  let crews: BlobSource[][] = [[...request.sources]]
  for (let crew = crews.shift(); crew !== undefined; crew = crews.shift()) {
    const attempt = await tryCrew(deps, request, crew)
    faults.push(...attempt.faults)
    if (attempt.type === 'verified') {
      faults.push(...differing(suspects, attempt.pieces).map(lie))
      return { type: 'fetched', bytesBySource: attempt.bytesBySource, faults }
    }
    if (attempt.type === 'incomplete') continue
    const bringers = new Set(attempt.pieces.map(({ source }) => source))
    if (bringers.size === 1) faults.push(...[...bringers].map(lie))
    else suspects.push(...attempt.pieces)
    const guilty = new Set(faults.map(({ source }) => source))
    const left = crew.filter((source) => !guilty.has(sourceName(source)))
    if (crew.length > 1) crews = left.map((source) => [source])
  }
  return { type: 'failed', faults }
}

interface BroughtPiece {
  readonly index: number
  readonly source: string
  readonly digest: Digest
}

interface Attempt {
  /** `wrong`: everything came, and does not hash to the digest. */
  readonly type: 'verified' | 'wrong' | 'incomplete'
  readonly faults: readonly SourceFault[]
  readonly bytesBySource: ReadonlyMap<string, number>
  /** Hashed one by one only when there is a doubt about them. */
  readonly pieces: readonly BroughtPiece[]
}

async function tryCrew(
  deps: DownloadDeps,
  request: DownloadRequest,
  sources: readonly BlobSource[],
): Promise<Attempt> {
  const { digest, size, file, limits, signal } = request
  signal.throwIfAborted()
  let isKept = false
  try {
    await using growing = await createGrowingFile(deps, file, size)
    const plan = createPiecePlan(size, limits.pieceBytes)
    const result = await workTogether(
      { plan, growing, connect: deps.connect },
      { sources, limits, signal },
    )
    if (!plan.isFinished) return { type: 'incomplete', ...result, pieces: [] }
    await growing.hashUpTo(size)
    isKept = growing.digest() === digest
    const inDoubt = !isKept || request.sources.length > sources.length ? plan.pieces : []
    const pieces: BroughtPiece[] = []
    for (const piece of inDoubt) {
      const source = result.broughtBy.get(piece.index) ?? ''
      pieces.push({ index: piece.index, source, digest: await growing.digestOfPiece(piece) })
    }
    return { type: isKept ? 'verified' : 'wrong', ...result, pieces }
  } finally {
    if (!isKept) await rm(file, { force: true })
  }
}

/** Sources, each once, that brought a piece otherwise than it is. */
function differing(suspects: readonly BroughtPiece[], right: readonly BroughtPiece[]): string[] {
  const digests = new Map(right.map(({ index, digest }) => [index, digest]))
  const liars = suspects.filter(({ index, digest }) => digests.get(index) !== digest)
  return [...new Set(liars.map(({ source }) => source))]
}

function lie(source: string): SourceFault {
  return { source, reason: 'wrong bytes', message: 'what it sent does not hash to the digest' }
}
