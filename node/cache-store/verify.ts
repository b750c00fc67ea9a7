/**
 * Reads blobs back from disk, in digest order, and removes those whose bytes are not what their name says:
 * a miss costs one step of a build, a wrong byte could end up in an image. Pins do not protect them.
 */
import { lstat } from 'node:fs/promises'
import type { Digest } from '../../core/digest.ts'
import { HearthError, hasErrno } from '../../core/errors.ts'
import type { Accounts } from './accounts.ts'
import type { BlobFiles } from './blob-files.ts'
import type { BlobIndex } from './blob-index.ts'
import type { Gate } from './gate.ts'
import type { Hasher, HashOutcome } from './hasher.ts'
import type { Holdings } from './holdings.ts'
import type { BlobInfo, VerifyEvent } from './index.ts'
import { projectOf } from './index-keys.ts'
import type { Publication } from './publication.ts'

export interface VerifyDeps {
  index: BlobIndex
  files: BlobFiles
  holdings: Holdings
  accounts: Accounts
  hasher: Hasher
  publication: Publication
  gate: Gate
}

/** Blobs listed at once. */
const pageMax = 256
const progressEveryMs = 200
const remedy = 'removed; a build that needs it makes it again'

export async function* verifyBlobs(
  deps: VerifyDeps,
  options: { project?: string; signal: AbortSignal },
): AsyncGenerator<VerifyEvent> {
  const blobsTotal = countOf(deps, options.project)
  let blobs = 0
  let bytes = 0
  let findings = 0
  let reportedAtMs = Number.NEGATIVE_INFINITY
  for (const blob of blobsOf(deps, options.project)) {
    if (performance.now() - reportedAtMs >= progressEveryMs) {
      reportedAtMs = performance.now()
      yield { type: 'progress', blobsDone: blobs, blobsTotal, bytesDone: bytes }
    }
    const problem = await checkBlob(deps, blob, options.signal)
    blobs++
    bytes += blob.size
    if (problem === undefined) continue
    findings++
    yield { type: 'finding', digest: blob.digest, problem, remedy }
  }
  yield { type: 'progress', blobsDone: blobs, blobsTotal, bytesDone: bytes }
  yield { type: 'summary', blobs, bytes, findings }
}

function countOf({ accounts }: VerifyDeps, project: string | undefined): number {
  return project === undefined ? accounts.usage().blobs : accounts.project(project).blobs
}

/** Page by page, so that no read transaction stays open while files are read. */
function* blobsOf({ index, gate }: VerifyDeps, project: string | undefined): Generator<BlobInfo> {
  let after: Digest | undefined
  for (;;) {
    gate.check()
    const page = index.blobsAfter(after, pageMax)
    after = page.at(-1)?.digest
    if (after === undefined) return
    for (const blob of page) {
      gate.check()
      if (project === undefined || isOf(project, index.owners(blob.digest))) yield blob
    }
  }
}

function isOf(project: string, owners: Parameters<typeof projectOf>[0][]): boolean {
  return owners.some((scope) => projectOf(scope) === project)
}

/** What is wrong with the blob, which is then gone; undefined when it is right or went by itself. */
async function checkBlob(
  deps: VerifyDeps,
  blob: BlobInfo,
  signal: AbortSignal,
): Promise<string | undefined> {
  using _inside = deps.gate.enter()
  const file = deps.files.pathOf(blob.digest)
  const read = await readBack(deps.hasher, file, blob, signal)
  if (read.problem === undefined) return undefined
  const condemned = await deps.publication.condemn(blob.digest, async () => {
    // Evicted meanwhile, or evicted and written again: then it is another file, and a good one.
    if (deps.holdings.size(blob.digest) === undefined) return false
    return (await inodeOf(file)) === read.inode
  })
  return condemned ? read.problem : undefined
}

/** The inode tells which file was read; undefined when there was none. */
async function readBack(
  hasher: Hasher,
  file: string,
  blob: BlobInfo,
  signal: AbortSignal,
): Promise<{ problem: string | undefined; inode: bigint | undefined }> {
  try {
    const hashed = await hasher.hash(file, { signal })
    return { problem: problemOf(hashed, blob), inode: hashed.inode }
  } catch (error) {
    const cause = error instanceof HearthError ? error.cause : error
    if (hasErrno(cause, 'ENOENT')) return { problem: 'its file is missing', inode: undefined }
    // A bad sector stays bad. Anything else (too many open files) says nothing about the blob.
    if (hasErrno(cause, 'EIO')) return { problem: 'cannot be read', inode: await inodeOf(file) }
    throw error
  }
}

function problemOf(hashed: HashOutcome, blob: BlobInfo): string | undefined {
  if (hashed.type === 'changed') return 'was written to while it was read'
  if (hashed.size !== blob.size) return `has ${hashed.size} bytes instead of ${blob.size}`
  return hashed.digest === blob.digest ? undefined : `hashes to ${hashed.digest}`
}

async function inodeOf(file: string): Promise<bigint | undefined> {
  try {
    return (await lstat(file, { bigint: true })).ino
  } catch {
    return undefined
  }
}
