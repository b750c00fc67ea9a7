/** Puts the cache store together: see index.ts for what it promises, and the files beside for how. */
import path from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Digest } from '../../core/digest.ts'
import { measureFolders } from '../../core/disk.ts'
import { claimDataFolder } from '../../core/format-version.ts'
import { gib } from '../../core/limits.ts'
import { setAsideDamage } from '../../core/lmdb-failure.ts'
import type { Logger } from '../../core/log.ts'
import { scopeId } from '../../core/scope.ts'
import { createAccounts } from './accounts.ts'
import { mergeFile } from './adopt.ts'
import { createArrivals } from './arrivals.ts'
import { type BlobFiles, openBlobFiles } from './blob-files.ts'
import { type BlobIndex, openBlobIndex } from './blob-index.ts'
import { createDepartures } from './departures.ts'
import { createDigestLocks } from './digest-locks.ts'
import { createEviction } from './eviction.ts'
import { createGate } from './gate.ts'
import { createHasher } from './hasher.ts'
import { createHoldings } from './holdings.ts'
import type { CacheStore, EvictionPolicy, Resemblance } from './index.ts'
import { type Holding, projectOf } from './index-keys.ts'
import { createLastUse } from './last-use.ts'
import { createNews } from './news.ts'
import { createPin, createPinCounts } from './pins.ts'
import { type CrashPoint, createPublication } from './publication.ts'
import { openBlob, requireRange } from './reader.ts'
import { repair } from './repair.ts'
import { createUpkeep } from './upkeep.ts'
import { verifyBlobs } from './verify.ts'

export interface CacheStoreOptions {
  /** Its own, created if absent. BuildKit's content store must be on the same file system for `adopt`. */
  folder: string
  log: Logger
  /** For projects without a policy of their own. Default: 50 GiB, 30 days. */
  defaultPolicy?: EvictionPolicy
  /** Ms since 1970. Default: the machine's clock. */
  clock?: () => number
  /** How long uses gather before they are written. Default: 5,000. */
  lastUseFlushMs?: number
  /** How often age is looked at; writes look at bytes by themselves. Default: 600,000. */
  evictionEveryMs?: number
  /** How long a blob that is lost waits for the store's watchers before its file goes. Default: 2,000. */
  lostMsMax?: number
  /** Called at the points where a crash would hurt most. For tests, which crash there. */
  atPoint?: (point: CrashPoint) => void | Promise<void>
}

const defaults = {
  policy: { bytesMax: 50 * gib, daysMax: 30 },
  lastUseFlushMs: 5_000,
  evictionEveryMs: 600_000,
  lostMsMax: 2_000,
}

const dayMs = 86_400_000

/** Rows read at once by a walk over all blobs. */
const pageMax = 256

/**
 * Opens the store, repairing what a crash left: some 10 µs a blob, nothing is read back.
 * @throws HearthError `version` when a newer Hearth made it, `unavailable` when another process holds it
 */
export async function openCacheStore(options: CacheStoreOptions): Promise<CacheStore> {
  const { folder, log } = options
  await claimDataFolder(folder, 'cache store')
  const indexFolder = path.join(folder, 'index')
  await setAsideDamage(indexFolder, log)
  const index = openBlobIndex(indexFolder)
  try {
    // After the index is claimed: emptying tmp/ would hurt another process that uses the folder.
    const files = await openBlobFiles(folder)
    const accounts = createAccounts()
    await repair({ files, index, accounts, log })
    return createStore({ index, files, accounts }, options)
  } catch (error) {
    await index[Symbol.asyncDispose]()
    throw error
  }
}

function createStore(
  parts: { index: BlobIndex; files: BlobFiles; accounts: ReturnType<typeof createAccounts> },
  options: CacheStoreOptions,
): CacheStore {
  const { index, files, accounts } = parts
  const { log, atPoint = () => undefined } = options
  const gate = createGate('the cache store')
  const hasher = createHasher()
  const pins = createPinCounts()
  const lastUse = createLastUse(
    { index, accounts, log, clock: options.clock ?? Date.now },
    { flushMs: options.lastUseFlushMs ?? defaults.lastUseFlushMs },
  )
  const news = createNews({ log }, { lostMsMax: options.lostMsMax ?? defaults.lostMsMax })
  const holdings = createHoldings({ index, accounts, pins, lastUse, news })
  const locks = createDigestLocks()
  const publication = createPublication({ files, holdings, locks, news, atPoint })
  const eviction = createEviction(
    { index, accounts, holdings, pins, lastUse, publication, log },
    {
      defaultPolicy: options.defaultPolicy ?? defaults.policy,
      policies: index.policies(),
      mayGoOn: () => gate.isOpen,
    },
  )
  const upkeep = createUpkeep(
    { gate, eviction, accounts, log },
    { evictionEveryMs: options.evictionEveryMs ?? defaults.evictionEveryMs },
  )
  const departures = createDepartures({ index, holdings, pins, publication, upkeep })
  const ways = { gate, files, hasher, holdings, lastUse, pins, publication, upkeep }
  const arrivals = createArrivals({ ...ways, departures, atPoint })

  const touchDaily = (holding: Holding) => {
    const before = index.lastUsedAtMs(holding)
    if (before !== undefined && before < lastUse.now() - dayMs) lastUse.touch(holding)
  }

  return {
    stat(scope, digest) {
      gate.check()
      const size = holdings.sees({ scope: scopeId(scope), digest })
      return size === undefined ? undefined : { digest, size }
    },

    async open(scope, digest, range) {
      using _inside = gate.enter()
      const holding = { scope: scopeId(scope), digest }
      const size = holdings.sees(holding)
      if (size === undefined) return undefined
      requireRange(range, { digest, size })
      const stream = await openBlob(files.pathOf(digest), { digest, size }, range)
      if (stream !== undefined) {
        lastUse.touch(holding)
        return stream
      }
      const wasBad = await publication.condemn(
        digest,
        async () => holdings.size(digest) === size && (await files.size(digest)) !== size,
      )
      if (wasBad)
        log.warn({ digest }, 'a blob file was missing or of the wrong size; it is forgotten')
      return undefined
    },

    fileOf(scope, digest) {
      gate.check()
      const holding = { scope: scopeId(scope), digest }
      const size = holdings.sees(holding)
      if (size === undefined) return undefined
      lastUse.touch(holding)
      return { file: files.pathOf(digest), size }
    },

    async createWriter(scope) {
      gate.check()
      return await arrivals.createWriter(scopeId(scope))
    },

    async adopt(scope, digest, file, options) {
      using _inside = gate.enter()
      return await arrivals.adopt({ scope: scopeId(scope), digest }, file, options)
    },

    temporaryFile() {
      gate.check()
      return files.temporaryPath()
    },

    async take(scope, blob, file) {
      using _inside = gate.enter()
      await arrivals.take(scopeId(scope), blob, file)
    },

    async own(scope, digest) {
      using _inside = gate.enter()
      return await arrivals.own({ scope: scopeId(scope), digest })
    },

    async merge(file, { signal }) {
      using _inside = gate.enter()
      if (holdings.size(file.digest) === undefined) return 0
      return await mergeFile({ files, hasher, publication }, file, { signal })
    },

    async compare(outside) {
      using _inside = gate.enter()
      const found = new Map<Digest, Resemblance>()
      for (const { digest, inode } of outside) {
        if (holdings.size(digest) === undefined) continue
        const projects = new Set(index.owners(digest).map(projectOf))
        const identity = await files.identity(digest)
        found.set(digest, { isSameFile: identity?.inode === inode, projects })
      }
      return found
    },

    async share(from, to, digest) {
      using _inside = gate.enter()
      if (holdings.sees({ scope: scopeId(from), digest }) === undefined) return undefined
      return await arrivals.own({ scope: scopeId(to), digest })
    },

    pin(scope, digests, { isUse = true } = {}) {
      gate.check()
      const used = isUse ? lastUse.touch : touchDaily
      const deps = { pins, sees: holdings.sees, used, released: departures.dropIfLoose }
      const pin = createPin(deps, scopeId(scope))
      pin.add(digests)
      return pin
    },

    async remove(scope, digest) {
      using _inside = gate.enter()
      await departures.remove({ scope: scopeId(scope), digest })
    },

    async reset(scope) {
      using _inside = gate.enter()
      return { bytesFreed: await departures.reset(scopeId(scope)) }
    },

    size(digest) {
      gate.check()
      return holdings.size(digest)
    },

    *blobs() {
      let after: Digest | undefined
      for (;;) {
        gate.check()
        const page = index.blobsAfter(after, pageMax)
        after = page.at(-1)?.digest
        if (after === undefined) return
        // Of the rest of a page, some may have gone while it was walked.
        for (const { digest } of page) {
          const size = holdings.size(digest)
          if (size !== undefined) yield { digest, size }
        }
      }
    },

    watch: news.watch,

    usage: () => accounts.usage(),

    async evict() {
      using _inside = gate.enter()
      // What has arrived in this turn is guarded until its end.
      await nextTurn()
      return await eviction.run()
    },

    async evictOldest(bytes) {
      using _inside = gate.enter()
      return await eviction.runOldest(bytes)
    },

    policyOf: eviction.policyOf,
    setRoom: eviction.setRoom,
    projectBytes: (project) => accounts.project(project).bytes,
    bytesOnDisk: ({ signal }) => measureFolders([options.folder], { signal }),

    setPolicies(policies) {
      gate.check()
      eviction.setPolicies(policies)
      // Kept, so that a node that starts while the coordinator is away does not evict by its default.
      upkeep.background('save the eviction policies', () => index.savePolicies(policies))
      upkeep.evictSoon()
    },

    verify(options) {
      const deps = { index, files, holdings, accounts, hasher, publication, gate }
      return verifyBlobs(deps, options)
    },

    async [Symbol.asyncDispose]() {
      if (!gate.isOpen) return
      upkeep[Symbol.dispose]()
      lastUse.stop()
      const left = gate.close()
      // First, so that nothing inside waits for a long file.
      await hasher[Symbol.asyncDispose]()
      await left
      await lastUse.flush().catch((error) => log.warn({ error }, 'cannot note the last uses'))
      await index[Symbol.asyncDispose]()
    },
  }
}
