/** A mount's folder as BuildKit would have it, a store, and the way from one to the other; they go with the test. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import type { ExecutionContext } from 'ava'
import type { Digest } from '../../../core/digest.ts'
import { silentLogger } from '../../../core/log.ts'
import { makeScope } from '../../../core/scope.ts'
import { type CacheStore, openCacheStore } from '../../cache-store/index.ts'
import { type SnapshotDocument, writeDocument } from './document.ts'
import { fillMount } from './fill-mount.ts'
import type { FillOutcome } from './index.ts'
import type { KnownSnapshot } from './known-snapshots.ts'
import type { LocalMount, MountWithBase } from './local-mounts.ts'
import { createPace } from './pace.ts'
import { type SnapshotOutcome, takeSnapshot } from './take-snapshot.ts'
import { walk } from './walk.ts'

export const scope = makeScope('app', 'main')
export const never = new AbortController().signal
const name = { id: '/cache', variant: '', platform: 'test' }

export interface MountBench {
  readonly folder: string
  readonly store: CacheStore
  /** An empty mount of which nothing is known. */
  newMount(options?: { targets?: string[] }): Promise<MountWithBase>
  take(mount: MountWithBase, options?: { bytesMax?: number }): Promise<SnapshotOutcome>
  /** Fills a new mount. */
  fill(
    heads: readonly KnownSnapshot[],
    options?: { signal?: AbortSignal },
  ): Promise<{ outcome: FillOutcome; mount: MountWithBase }>
}

export async function mountBench(t: ExecutionContext): Promise<MountBench> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'hearth-mounts-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const store = await openCacheStore({ folder: path.join(folder, 'store'), log: silentLogger })
  t.teardown(() => store[Symbol.asyncDispose]())
  const temporary = path.join(folder, 'temporary')
  await mkdir(temporary)
  let mounts = 0

  async function newMount({ targets = ['/cache'] }: { targets?: string[] } = {}) {
    mounts += 1
    const content = path.join(folder, 'snapshots', `${mounts}`, 'fs')
    await mkdir(content, { recursive: true })
    const mount: MountWithBase = {
      version: 1,
      snapshot: content,
      content,
      scope,
      name,
      kind: 'newest',
      targets,
      base: undefined,
      parents: [],
      doubts: [],
      lastUsedAtMs: 0,
    }
    return mount
  }

  return {
    folder,
    store,
    newMount,
    take: (mount, { bytesMax = 2 ** 40 } = {}) =>
      takeSnapshot({ store }, mount, {
        bytesMax,
        isThere: ({ digest }) => store.stat(scope, digest) !== undefined,
        pin: store.pin(scope, []),
        temporary,
        signal: never,
      }),
    async fill(heads, { signal = never } = {}) {
      const mount = await newMount()
      const { content, snapshot } = mount
      const local = { beginFilling: async () => {}, endFilling: async () => {} }
      const { mount: more, ...outcome } = await fillMount(
        { store, sources: undefined, local, pace: createPace(), log: silentLogger },
        {
          scope,
          name,
          place: { snapshot, content, mountPoint: undefined },
          temporary,
          pid: process.pid,
        },
        heads,
        { signal },
      )
      return { outcome, mount: { ...mount, ...more } }
    },
  }
}

/** As the mesh would have it. */
export function known(document: SnapshotDocument, sequence: number): KnownSnapshot {
  return { digest: writeDocument(document).digest, sequence, document }
}

/** The snapshot that was to be taken, and the mount after it. */
export function taken(outcome: SnapshotOutcome) {
  if (outcome.type !== 'taken') throw new Error(`no snapshot: ${outcome.reason}`)
  const digest: Digest = writeDocument(outcome.document).digest
  return { ...outcome, mount: { ...outcome.mount, parents: [digest] } }
}

/** All that a user of the mount can see. */
export async function contentOf({ content }: LocalMount) {
  const { entries } = await walk(content, { signal: never })
  return entries.map(({ inode: _inode, changed: _changed, ...entry }) => entry)
}
