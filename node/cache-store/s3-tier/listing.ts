/** The fragments that are in the object store: listed, and read where they are new. */
import PQueue from 'p-queue'
import type { Digest } from '../../../core/digest.ts'
import { describeError, HearthError } from '../../../core/errors.ts'
import { mib } from '../../../core/limits.ts'
import type { Logger } from '../../../core/log.ts'
import type { Bucket, ListedObject } from './bucket.ts'
import { fragmentObjectBytesMax } from './fragment-object.ts'
import type { StoredFragment } from './index.ts'
import { type FragmentName, fragmentOfKey } from './location.ts'
import type { Presence } from './presence.ts'

export interface ListingDeps {
  bucket: Pick<Bucket, 'list' | 'get'>
  presence: Presence
  log: Logger
}

export interface ListedFragment extends ListedObject, FragmentName {}

const readsMax = 8

/** More than a scope's record is ever made of: what is older waits for those to be swept. */
const fragmentsMax = 500
const answerBytesMax = 128 * mib

/** Page by page; forgets what is not listed any more. */
export async function* listFragments(
  { bucket, presence }: ListingDeps,
  folder: string,
  { signal }: { signal: AbortSignal },
): AsyncGenerator<ListedFragment[], void, void> {
  const since = presence.now()
  let after = ''
  const forgetUpTo = async (upTo: string | undefined, listed: ReadonlySet<string>) => {
    const known = presence.knownBetween(after, upTo, folder, since)
    await presence.forgetFragments(known.filter((key) => !listed.has(key)))
  }
  for await (const page of bucket.list(folder, { signal })) {
    const last = page.at(-1)?.key
    if (last === undefined) continue
    await forgetUpTo(last, new Set(page.map(({ key }) => key)))
    after = last
    yield page.flatMap((object) => {
      const name = fragmentOfKey(object.key)
      return name === undefined || object.size > fragmentObjectBytesMax
        ? []
        : [{ ...object, ...name }]
    })
  }
  await forgetUpTo(undefined, new Set())
}

/** Reads what nobody here has read yet, so that all is known that the listed fragments name. */
export async function learnAll(
  deps: ListingDeps,
  listed: readonly ListedFragment[],
  { signal }: { signal: AbortSignal },
): Promise<void> {
  const turns = new PQueue({ concurrency: readsMax })
  const unknown = listed.filter((object) => !deps.presence.isLearnt(object))
  await turns.addAll(unknown.map((object) => async () => void (await read(deps, object, signal))))
}

/** Those not `known`, newest first. What cannot be read is left out, with a line in the log. */
export async function readFragments(
  deps: ListingDeps,
  listed: readonly ListedFragment[],
  options: { known: ReadonlySet<Digest>; signal: AbortSignal },
): Promise<StoredFragment[]> {
  const { known, signal } = options
  const newest = [...listed].sort((a, b) => b.modifiedMs - a.modifiedMs).slice(0, fragmentsMax)
  let bytes = 0
  const wanted = newest.filter((object) => {
    // A problem was reported when it was learnt.
    const isProblem = deps.presence.fragment(object.key)?.problem !== undefined
    if (deps.presence.isLearnt(object) && (known.has(object.digest) || isProblem)) return false
    bytes += object.size
    return bytes <= answerBytesMax
  })
  const turns = new PQueue({ concurrency: readsMax })
  const found = await turns.addAll(
    wanted.map((object) => async () => {
      try {
        const fragment = await read(deps, object, signal)
        return known.has(object.digest) ? undefined : fragment
      } catch (error) {
        if (signal.aborted) throw error
        deps.log.warn({ object: object.key, error: describeError(error) }, 'a fragment is left out')
        return undefined
      }
    }),
  )
  return found.filter((fragment) => fragment !== undefined)
}

/** @throws HearthError when it did not arrive whole: nothing is known of it then. */
async function read(
  { bucket, presence, log }: ListingDeps,
  object: ListedFragment,
  signal: AbortSignal,
): Promise<StoredFragment | undefined> {
  const { key, modifiedMs } = object
  const found = await bucket.get(key, { bytesMax: fragmentObjectBytesMax, signal })
  if (found === undefined) {
    // Swept since it was listed.
    await presence.forgetFragments([key])
    return undefined
  }
  if (found.etag === object.etag && found.bytes.length !== object.size) {
    throw new HearthError('unavailable', `${key} did not arrive whole from the object store`)
  }
  const learned = await presence.learn(object, { ...found, modifiedMs })
  if (learned.type === 'fragment') return learned.fragment
  log.warn(
    { object: key, problem: learned.problem.message },
    learned.type === 'newer'
      ? 'a fragment of a newer Hearth in the object store is left alone'
      : 'a damaged fragment in the object store is left alone',
  )
  return undefined
}
