/** Puts the tier together: see index.ts for what it promises, and the files beside for how. */
import type { Readable } from 'node:stream'
import { digestOf } from '../../../core/digest.ts'
import { describeError, HearthError } from '../../../core/errors.ts'
import { mib } from '../../../core/limits.ts'
import { scopeId } from '../../../core/scope.ts'
import { createGate } from '../gate.ts'
import { createCircuit } from './circuit.ts'
import { startDailySweep } from './daily-sweep.ts'
import type { S3Tier, S3TierDeps, S3TierLimits, S3TierOptions } from './index.ts'
import { keepFragment } from './keep-fragment.ts'
import { type ListedFragment, listFragments, readFragments } from './listing.ts'
import { blobKey, parseBucketUrl, projectFolder, scopeFolder } from './location.ts'
import { createPresence } from './presence.ts'
import { createQueue } from './queue.ts'
import { createRecentListings } from './recent-listings.ts'
import { sweepBucket } from './sweep.ts'
import { openTables } from './tables.ts'
import { createUploads } from './uploads.ts'
import { createBlobUrls } from './urls.ts'
import { createWriteBehind } from './write-behind.ts'

const dayMs = 86_400_000

const defaultLimits: Omit<S3TierLimits, 'uploadBytesPerS'> = {
  uploadsMax: 3,
  partBytes: 8 * mib,
  queuedFragmentsMax: 1000,
  untouchedMs: 30 * dayMs,
  graceMs: dayMs,
  sweepEveryMs: dayMs,
  connectMs: 3_000,
  stallMs: 20_000,
  restMs: 1_000,
  restMsMax: 300_000,
}

const partBytesMin = 5 * mib
const fragmentsAtOnce = 4

/** A fragment is touched again well before its age counts. */
const touchPart = 1 / 4

/**
 * Opens the queue and goes on with what waits in it. An object store that cannot be reached is no reason to fail.
 * @throws HearthError `invalid-input` when url or endpoint are none, `version` when a newer Hearth made the folder.
 */
export async function createS3Tier(deps: S3TierDeps, options: S3TierOptions): Promise<S3Tier> {
  const { store, log } = deps
  const limits = { ...defaultLimits, ...options.limits }
  if (limits.partBytes < partBytesMin) {
    throw new HearthError(
      'invalid-input',
      `parts of ${limits.partBytes} bytes are too small for S3`,
    )
  }
  const location = parseBucketUrl(options.url)
  // Only here: the SDK costs 30 MB and a tenth of a second, and most nodes of one machine have no object store.
  const [{ createClient }, { createBucket, probeBucket }] = await Promise.all([
    import('./client.ts'),
    import('./bucket.ts'),
  ])

  await using cleanUp = new AsyncDisposableStack()
  const client = cleanUp.use(createClient(options, limits))
  const { clock } = client
  const tables = cleanUp.use(await openTables(options.folder, log))
  const closing = new AbortController()
  const gate = createGate('the object store')
  const circuitOf = (what: string, probe?: () => Promise<void>) =>
    cleanUp.use(
      createCircuit(
        { log },
        {
          what: `${what} ${options.url}`,
          restMs: limits.restMs,
          restMsMax: limits.restMsMax,
          ...(probe === undefined ? {} : { probe }),
        },
      ),
    )
  const reading = circuitOf('reading from', () =>
    probeBucket(client, location, { signal: closing.signal }),
  )
  const writing = circuitOf('writing to')
  const bucket = createBucket(
    { client, reading, writing },
    { ...location, partBytes: limits.partBytes },
  )
  const presence = createPresence(tables)
  const queue = createQueue(tables, { fragmentsMax: limits.queuedFragmentsMax })
  const uploads = createUploads(
    { store, bucket, presence },
    { uploadsMax: limits.uploadsMax, bytesPerS: limits.uploadBytesPerS },
  )
  const touchAfterMs = limits.untouchedMs * touchPart
  const writeBehind = cleanUp.use(
    createWriteBehind(
      {
        queue,
        circuits: [reading, writing],
        log,
        keep: (queued, object, { signal }) =>
          keepFragment({ store, bucket, presence, uploads, clock }, queued, object, {
            touchAfterMs,
            signal,
          }),
      },
      { fragmentsAtOnce, retryMs: limits.restMs, retryMsMax: limits.restMsMax },
    ),
  )
  const urls = createBlobUrls({ bucket })
  const listing = { bucket, presence, log }
  const listings = createRecentListings(async (folder) => {
    const listed: ListedFragment[] = []
    for await (const page of listFragments(listing, folder, { signal: closing.signal })) {
      listed.push(...page)
    }
    return listed
  })
  const sweep: S3Tier['sweep'] = (options) =>
    sweepBucket(
      { ...listing, clock },
      { ...limits, signal: AbortSignal.any([options.signal, closing.signal]) },
    )
  cleanUp.use(startDailySweep({ bucket, clock, log, sweep }, { everyMs: limits.sweepEveryMs }))
  // Tells the server's time, and a person early what is wrong.
  const probed = reading
    .run(() => probeBucket(client, location, { signal: closing.signal }))
    .catch(() => {})
  cleanUp.defer(() => probed)

  const owned = cleanUp.move()
  return {
    name: 's3',

    async keep(scope, fragment) {
      const { queued, superseded, pushedOut } = await queue.add(
        scope,
        digestOf(fragment.bytes),
        fragment,
      )
      if (superseded !== undefined) writeBehind.supersede(superseded, queued)
      const tooMany = `${limits.queuedFragmentsMax} newer fragments wait for the object store`
      writeBehind.drop(pushedOut, new HearthError('exhausted', tooMany))
      const done = writeBehind.whenDone(queued)
      writeBehind.wake()
      await done
    },

    async fragments(scope, { kind = 'record', known, signal }) {
      using _inside = gate.enter()
      if (!reading.isClosed) return []
      const any = AbortSignal.any([signal, closing.signal])
      try {
        const listed = await listings.of(scopeFolder(scope))
        const asked = listed.filter((each) => each.kind === kind)
        return await readFragments(listing, asked, { known, signal: any })
      } catch (error) {
        if (signal.aborted) throw new HearthError('cancelled', 'reading fragments was cancelled')
        // The circuit has said why, where it is the object store's fault.
        log.debug({ scope: scopeId(scope), error: describeError(error) }, 'no fragments from there')
        return []
      }
    },

    has: (digest) => reading.isClosed && presence.has(digest),

    urlOf: (digest) => urls.of(digest),

    async read({ digest }, { signal }): Promise<Readable | undefined> {
      using _inside = gate.enter()
      const key = blobKey(digest)
      const source = await bucket.open(key, { signal: AbortSignal.any([signal, closing.signal]) })
      if (source === undefined) await presence.doubt(digest, 'absent')
      return source
    },

    reportFault(digest, { reason, message }) {
      if (reason === 'absent' || reason === 'wrong bytes') {
        log.warn({ digest, reason }, 'a blob in the object store is missing or damaged')
        const inside = gate.enter()
        presence
          .doubt(digest, reason)
          .catch((error: unknown) => log.warn({ error }, 'a missing blob could not be noted'))
          .finally(() => inside[Symbol.dispose]())
      }
      if (reason === 'refused') urls.forget(digest)
      if (reason === 'unreachable' || reason === 'stalled') {
        const hint = 'check the network between this machine and the object store'
        reading.report(new HearthError('unavailable', `reading a blob: ${message}`, { hint }))
      }
    },

    async sweep(options) {
      using _inside = gate.enter()
      return await sweep(options)
    },

    async reset(project, options) {
      using _inside = gate.enter()
      const signal = AbortSignal.any([options.signal, closing.signal])
      const waiting = queue.list().filter(({ scope }) => scope.project === project)
      await queue.remove(waiting)
      writeBehind.drop(waiting, new HearthError('cancelled', 'the project was reset'))
      const folder = projectFolder(project)
      for await (const page of listFragments(listing, folder, { signal })) {
        for (const { key } of page) {
          await bucket.remove(key, { signal })
          await presence.forgetFragments([key])
        }
      }
      listings.forget(folder)
    },

    state() {
      const waiting = queue.list()
      const needed = new Map(
        waiting
          .flatMap(({ blobs }) => blobs)
          .filter(({ digest }) => !presence.has(digest))
          .map(({ digest, size }) => [digest, size]),
      )
      const trouble = writing.trouble ?? reading.trouble
      return {
        queuedFragments: waiting.length,
        queuedBytes: [...needed.values()].reduce((sum, size) => sum + size, 0),
        ...(trouble === undefined ? {} : { trouble }),
      }
    },

    async [Symbol.asyncDispose]() {
      closing.abort()
      if (gate.isOpen) await gate.close()
      await owned.disposeAsync()
    },
  }
}
