/**
 * Takes over a file that another program has completed, without copying a byte: a second name for the same
 * file (hard link), hashed through that name, then published like any blob. From then on the file must not
 * change, so write permission is taken from it, as containerd's content store does with what it commits.
 */
import { constants } from 'node:fs'
import { link, open } from 'node:fs/promises'
import type { Digest } from '../../core/digest.ts'
import { hasErrno, toHearthError } from '../../core/errors.ts'
import type { ScopeId } from '../../core/scope.ts'
import type { BlobFiles } from './blob-files.ts'
import type { Hasher } from './hasher.ts'
import type { AdoptOutcome, AdoptRefusal, OutsideFile } from './index.ts'
import type { CrashPoint, Publication } from './publication.ts'

type Refusal = { type: 'refused'; reason: AdoptRefusal }

export async function adoptFile(
  deps: {
    files: BlobFiles
    hasher: Hasher
    publication: Publication
    atPoint: (point: CrashPoint) => void | Promise<void>
  },
  wanted: { scope: ScopeId; digest: Digest; file: string },
  options: { signal: AbortSignal },
): Promise<AdoptOutcome> {
  const temporary = deps.files.temporaryPath()
  const refused = await linkFile(wanted.file, temporary)
  if (refused !== undefined) return refused
  try {
    await deps.atPoint('file linked')
    const { digest } = wanted
    const prepared = await checkLink(deps.hasher, temporary, digest, options)
    if (prepared.type === 'refused') return prepared
    await deps.publication.publish(wanted.scope, temporary, { digest, size: prepared.size })
    return { type: 'adopted', size: prepared.size }
  } finally {
    await deps.files.discard(temporary)
  }
}

/**
 * The same for a blob that is here already, as a file of its own: the other file, once verified, takes its
 * place, so that the bytes are on disk once.
 * @returns bytes saved.
 */
export async function mergeFile(
  deps: { files: BlobFiles; hasher: Hasher; publication: Publication },
  { digest, file, inode }: OutsideFile,
  options: { signal: AbortSignal },
): Promise<number> {
  const own = await deps.files.identity(digest)
  // A file with a second name is shared already, with somebody else: nothing would be saved.
  if (own === undefined || own.inode === inode || own.names > 1) return 0
  const temporary = deps.files.temporaryPath()
  if ((await linkFile(file, temporary)) !== undefined) return 0
  try {
    const prepared = await checkLink(deps.hasher, temporary, digest, options)
    if (prepared.type === 'refused') return 0
    const { size } = prepared
    return (await deps.publication.replace(temporary, { digest, size })) ? size : 0
  } finally {
    await deps.files.discard(temporary)
  }
}

async function linkFile(file: string, temporary: string): Promise<Refusal | undefined> {
  try {
    await link(file, temporary)
    return undefined
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return refusal('no such file')
    if (hasErrno(error, 'EXDEV')) return refusal('other file system')
    // Somebody else's file (fs.protected_hardlinks), too many links, a folder.
    if (hasErrno(error, 'EPERM', 'EACCES', 'EMLINK')) return refusal('cannot be linked')
    throw toHearthError(error, `link ${file}`)
  }
}

async function checkLink(
  hasher: Hasher,
  temporary: string,
  digest: Digest,
  options: { signal: AbortSignal },
): Promise<Refusal | { type: 'ready'; size: number }> {
  let handle: Awaited<ReturnType<typeof open>>
  try {
    handle = await open(temporary, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch (error) {
    // The link is one to a symbolic link, whose target could be exchanged later.
    if (hasErrno(error, 'ELOOP')) return refusal('cannot be linked')
    throw toHearthError(error, 'open a linked file')
  }
  await using closing = handle
  const stat = await closing.stat()
  if (!stat.isFile()) return refusal('cannot be linked')
  const hashed = await hasher.hash(temporary, options)
  if (hashed.type === 'changed' || hashed.digest !== digest) {
    return refusal('content does not match')
  }
  if ((stat.mode & 0o222) !== 0 && !(await takeWritePermission(closing, stat.mode))) {
    return refusal('cannot be linked')
  }
  // Its writer may have left it to the page cache.
  await closing.sync()
  return { type: 'ready', size: hashed.size }
}

async function takeWritePermission(
  handle: { chmod(mode: number): Promise<void> },
  mode: number,
): Promise<boolean> {
  try {
    await handle.chmod(mode & 0o7777 & ~0o222)
    return true
  } catch (error) {
    if (hasErrno(error, 'EPERM')) return false
    throw error
  }
}

function refusal(reason: AdoptRefusal): Refusal {
  return { type: 'refused', reason }
}
