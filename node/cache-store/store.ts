/** Puts the cache store together: see index.ts for what it promises, and the files beside for how. */
import path from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Digest } from '../../core/digest.ts'
import { measureFolders } from '../../core/disk.ts'
import { claimDataFolder } from '../../core/format-version.ts'
import { gib } from '../../core/limits.ts'
import { setAsideDamage } from '../../core/lmdb-failure.ts'
import type { Logger } from '../../core/log.ts'
import { type ScopeId, scopeId } from '../../core/scope.ts'
import { createAccounts } from './accounts.ts'
import { adoptFile, mergeFile } from './adopt.ts'
import { type BlobFiles, openBlobFiles } from './blob-files.ts'
import { type BlobIndex, openBlobIndex } from './blob-index.ts'
import { createDigestLocks } from './digest-locks.ts'
import { createEviction, type Evicted } from './eviction.ts'
import { createGate } from './gate.ts'
import { createHasher } from './hasher.ts'
import { createHoldings, type Released } from './holdings.ts'
import type { CacheStore, EvictionPolicy, Resemblance } from './index.ts'
import { type Holding, projectOf } from './index-keys.ts'
import { createLastUse } from './last-use.ts'
import { createPin, createPinCounts } from './pins.ts'
import { type CrashPoint, createPublication } from './publication.ts'
import { openBlob, requireRange } from './reader.ts'
import { repair } from './repair.ts'
import { verifyBlobs } from './verify.ts'
import { createBlobWriter } from './writer.ts'

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
  /** Called at the points where a crash would hurt most. For tests, which crash there. */
  atPoint?: (point: CrashPoint) => void | Promise<void>
}

const defaults = {
  policy: { bytesMax: 50 * gib, daysMax: 30 },
  lastUseFlushMs: 5_000,
  evictionEveryMs: 600_000,
}

const dayMs = 86_400_000

/** Blobs looked at in one turn of the event loop when a scope is reset. */
const resetSliceMax = 256

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
  const holdings = createHoldings({ index, accounts, pins, lastUse })
  const publication = createPublication({ files, holdings, locks: createDigestLocks(), atPoint })
  const eviction = createEviction(
    { index, accounts, holdings, pins, lastUse, publication, log },
    {
      defaultPolicy: options.defaultPolicy ?? defaults.policy,
      policies: index.policies(),
      mayGoOn: () => gate.isOpen,
    },
  )

  /** Work nobody waits for but the closing store. */
  const background = (doing: string, run: () => Promise<unknown>) => {
    if (!gate.isOpen) return
    const inside = gate.enter()
    run()
      .catch((error) => log.error({ error }, `cannot ${doing}`))
      .finally(() => inside[Symbol.dispose]())
  }

  let evictionQueued = false
  const evictSoon = () => {
    if (evictionQueued) return
    evictionQueued = true
    background('evict from the cache store', () => {
      evictionQueued = false
      return eviction.run()
    })
  }
  const evictIfOver = (scope: ScopeId) => {
    const project = projectOf(scope)
    if (accounts.project(project).bytes > eviction.bytesMaxOf(project)) evictSoon()
  }
  const timer = setInterval(evictSoon, options.evictionEveryMs ?? defaults.evictionEveryMs).unref()

  /** Blobs that nobody owns, only pinned ones: they go with their last pin. */
  const loose = new Set<Digest>()
  const dropIfLoose = (digest: Digest) => {
    if (pins.isPinned(digest) || !loose.delete(digest)) return
    background('remove a blob after its last pin', async () => {
      if ((await holdings.forgetLoose(digest)) !== undefined) await publication.sweep(digest)
    })
  }
  const finishRelease = async (released: readonly Released[]): Promise<Evicted> => {
    const gone = released.filter((blob) => blob.fate === 'gone')
    await Promise.all(gone.map((blob) => publication.sweep(blob.digest)))
    for (const { digest, fate } of released) {
      if (fate !== 'pinned') continue
      loose.add(digest)
      // The pin may have ended while the transaction was on its way to disk.
      dropIfLoose(digest)
    }
    return { blobs: gone.length, bytesFreed: gone.reduce((sum, blob) => sum + blob.size, 0) }
  }

  /**
   * Guards what is about to be there, and for a turn longer than disposal: eviction that runs meanwhile would find
   * it unused, and a project that is over its limit has nothing else to lose.
   */
  const arrival = (holding: Holding): Disposable => {
    const guard = pins.guard(holding.digest)
    return {
      [Symbol.dispose]() {
        setImmediate(() => {
          guard[Symbol.dispose]()
          dropIfLoose(holding.digest)
          if (gate.isOpen) evictIfOver(holding.scope)
        })
      },
    }
  }

  const touchDaily = (holding: Holding) => {
    const before = index.lastUsedAtMs(holding)
    if (before !== undefined && before < lastUse.now() - dayMs) lastUse.touch(holding)
  }

  const publish: typeof publication.publish = async (scope, temporary, blob) => {
    await publication.publish(scope, temporary, blob)
    evictIfOver(scope)
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

    async createWriter(scope) {
      gate.check()
      const arrivals = new DisposableStack()
      const writer = await createBlobWriter({ files, gate, publish }, scopeId(scope))
      return {
        get size() {
          return writer.size
        },
        write: writer.write,
        commit(digest) {
          arrivals.use(arrival({ scope: scopeId(scope), digest }))
          return writer.commit(digest)
        },
        async [Symbol.asyncDispose]() {
          await writer[Symbol.asyncDispose]()
          arrivals.dispose()
        },
      }
    },

    async adopt(scope, digest, file, { signal }) {
      using _inside = gate.enter()
      const holding = { scope: scopeId(scope), digest }
      const size = holdings.owns(holding) ? holdings.size(digest) : undefined
      if (size !== undefined) {
        lastUse.touch(holding)
        return { type: 'already held', size }
      }
      const adopting = { files, hasher, publication: { ...publication, publish }, atPoint }
      using _arrival = arrival(holding)
      return await adoptFile(adopting, { ...holding, file }, { signal })
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
      const blob = await holdings.extend(scopeId(to), digest)
      if (blob !== undefined) evictIfOver(scopeId(to))
      return blob
    },

    pin(scope, digests, { isUse = true } = {}) {
      gate.check()
      const used = isUse ? lastUse.touch : touchDaily
      const deps = { pins, sees: holdings.sees, used, released: dropIfLoose }
      const pin = createPin(deps, scopeId(scope))
      pin.add(digests)
      return pin
    },

    async remove(scope, digest) {
      using _inside = gate.enter()
      const holding = { scope: scopeId(scope), digest }
      await finishRelease(await holdings.release([holding], { sparePinned: false }))
    },

    async reset(scope) {
      using _inside = gate.enter()
      let bytesFreed = 0
      let after: Digest | undefined
      for (;;) {
        const page = index.blobsAfter(after, resetSliceMax)
        after = page.at(-1)?.digest
        if (after === undefined) return { bytesFreed }
        const owned = page
          .map(({ digest }) => ({ scope: scopeId(scope), digest }))
          .filter((holding) => holdings.owns(holding))
        const released = await holdings.release(owned, { sparePinned: false })
        bytesFreed += (await finishRelease(released)).bytesFreed
      }
    },

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
      background('save the eviction policies', () => index.savePolicies(policies))
      evictSoon()
    },

    verify(options) {
      const deps = { index, files, holdings, accounts, hasher, publication, gate }
      return verifyBlobs(deps, options)
    },

    async [Symbol.asyncDispose]() {
      if (!gate.isOpen) return
      clearInterval(timer)
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
