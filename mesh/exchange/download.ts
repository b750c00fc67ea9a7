/** One blob from its sources into a verified file, whatever some of the sources do. */
import { rm } from 'node:fs/promises'
import type { Digest } from '../../core/digest.ts'
import { type BlockPool, blockBytes } from './block-pool.ts'
import { type CrewDeps, sourceName, workTogether } from './crew.ts'
import { type BroughtBlock, createGrowingFile } from './growing-file.ts'
import type { BlobSource, FetchOutcome, Road, SourceFault, TransferLimits } from './index.ts'
import type { Wait } from './patience.ts'
import { createPiecePlan } from './piece-plan.ts'
import { createSmallFile } from './small-file.ts'

export interface DownloadDeps extends Pick<CrewDeps, 'connect'> {
  blocks: BlockPool
}

export interface DownloadRequest {
  digest: Digest
  size: number
  file: string
  /** Whether its bytes are to be on disk by the end. */
  isSynced: boolean
  sources: readonly BlobSource[]
  limits: TransferLimits
  /** By source: how long its silence is nothing unusual. */
  hedgeMs: ReadonlyMap<string, number>
  signal: AbortSignal
}

export interface Download {
  readonly outcome: FetchOutcome
  /** Of all sources, also of those that brought nothing. */
  readonly waits: readonly Wait[]
}

/**
 * Bytes that do not hash to the digest may come from any of those who brought some. Then the sources are asked
 * one by one: who alone brings wrong bytes has lied, and once somebody brings the right ones, so has everybody
 * whose blocks differ from them.
 *
 * @returns with the outcome `failed` when no source delivered; the file is then gone.
 * @throws what writing the file throws, and the signal's reason.
 */
export async function downloadBlob(
  deps: DownloadDeps,
  request: DownloadRequest,
): Promise<Download> {
  const faults: SourceFault[] = []
  const waits: Wait[] = []
  const suspects: NamedBlock[] = []
  let crews: BlobSource[][] = [[...request.sources]]
  for (let crew = crews.shift(); crew !== undefined; crew = crews.shift()) {
    const attempt = await tryCrew(deps, request, crew)
    faults.push(...attempt.faults)
    waits.push(...attempt.waits)
    if (attempt.type === 'verified') {
      faults.push(...differing(suspects, attempt.blocks).map(lie))
      const { bytesBySource, roads } = attempt
      return { outcome: { type: 'fetched', bytesBySource, roads, faults }, waits }
    }
    if (attempt.type === 'incomplete') continue
    const bringers = new Set(attempt.blocks.map(({ source }) => source))
    if (bringers.size === 1) faults.push(...[...bringers].map(lie))
    else suspects.push(...attempt.blocks)
    const guilty = new Set(faults.map(({ source }) => source))
    const left = crew.filter((source) => !guilty.has(sourceName(source)))
    if (crew.length > 1) crews = left.map((source) => [source])
  }
  return { outcome: { type: 'failed', faults }, waits }
}

interface NamedBlock extends BroughtBlock {
  readonly digest: Digest
}

interface Attempt {
  /** `wrong`: everything came, and does not hash to the digest. */
  readonly type: 'verified' | 'wrong' | 'incomplete'
  readonly faults: readonly SourceFault[]
  readonly bytesBySource: ReadonlyMap<string, number>
  readonly roads: ReadonlyMap<string, Road>
  readonly waits: readonly Wait[]
  /** Hashed one by one only when there is a doubt about them. */
  readonly blocks: readonly NamedBlock[]
}

async function tryCrew(
  deps: DownloadDeps,
  request: DownloadRequest,
  sources: readonly BlobSource[],
): Promise<Attempt> {
  const { digest, size, file, limits, hedgeMs, signal } = request
  signal.throwIfAborted()
  let isKept = false
  try {
    const isOneBlock = size <= Math.min(blockBytes, limits.pieceBytes)
    await using growing = isOneBlock
      ? createSmallFile(file)
      : await createGrowingFile(deps, file, size)
    const plan = createPiecePlan(size, limits.pieceBytes)
    const result = await workTogether(
      { plan, growing, connect: deps.connect },
      { sources, limits, hedgeMs, signal },
    )
    if (!plan.isFinished) return { type: 'incomplete', ...result, blocks: [] }
    await growing.hashUpTo(size)
    const isRight = growing.digest() === digest
    if (isRight) await growing.finish(request)
    isKept = isRight
    const isInDoubt = !isKept || request.sources.length > sources.length
    const blocks: NamedBlock[] = []
    for (const block of isInDoubt ? growing.brought() : []) {
      blocks.push({ ...block, digest: await growing.digestOf(block) })
    }
    return { type: isKept ? 'verified' : 'wrong', ...result, blocks }
  } finally {
    if (!isKept) await rm(file, { force: true })
  }
}

/** Sources, each once, that brought a block otherwise than it is. */
function differing(suspects: readonly NamedBlock[], right: readonly NamedBlock[]): string[] {
  const digests = new Map(right.map(({ start, digest }) => [start, digest]))
  const liars = suspects.filter(({ start, digest }) => digests.get(start) !== digest)
  return [...new Set(liars.map(({ source }) => source))]
}

function lie(source: string): SourceFault {
  return { source, reason: 'wrong bytes', message: 'what it sent does not hash to the digest' }
}
