/** Puts the room together: see index.ts for what it promises. */

import { randomBytes } from 'node:crypto'
import { chown, lstat, mkdir, rename, rm } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { describeError } from '../../../core/errors.ts'
import { gib } from '../../../core/limits.ts'
import { type Scope, type ScopeId, scopeId } from '../../../core/scope.ts'
import type { SteppingDaemon } from '../daemon/index.ts'
import { createMountArrivals } from './arrivals.ts'
import { blobsOf, keyOfMount, savedMs } from './document.ts'
import type { Blob, MountName, MountState, Mounts, MountsDeps, MountsOptions } from './index.ts'
import { openKnownSnapshots } from './known-snapshots.ts'
import { createLiveMounts } from './live-mounts.ts'
import { type LocalMount, openLocalMounts } from './local-mounts.ts'
import { locateMount } from './locate.ts'
import { serveSteps } from './step-server.ts'
import { readStepSpec } from './step-spec.ts'
import { createStepTable, type StepTable } from './step-table.ts'

/** How long a build or a step waits for what others know. */
const readyMsMax = 2_000

/**
 * @param deps stay open until this is disposed.
 * @throws HearthError `environment` when the folder cannot be used.
 */
export async function createMounts(deps: MountsDeps, options: MountsOptions): Promise<Mounts> {
  const { store, sources, news, s3, log } = deps
  const { folder, platform, bytesMax = 8 * gib, fillMsMax = 60_000, restMs = 1_000 } = options
  await using cleanUp = new AsyncDisposableStack()
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const isThere = (scope: Scope, blob: Blob): boolean =>
    store.stat(scope, blob.digest) !== undefined || sources?.whereabouts(scope, blob) !== undefined
  const known = cleanUp.use(
    await openKnownSnapshots(
      { store, news, s3, isThere, log },
      { folder: path.join(folder, 'snapshots') },
    ),
  )
  const local = await openLocalMounts(path.join(folder, 'local'))
  const arrivals =
    news === undefined || sources === undefined
      ? undefined
      : cleanUp.use(
          createMountArrivals({
            news,
            sources,
            store,
            s3,
            has: known.has,
            take: known.accept,
            log,
          }),
        )
  const nothingMore = new AbortController()
  cleanUp.defer(() => nothingMore.abort())
  const live = cleanUp.use(
    createLiveMounts({ store, sources, known, local, ready, log }, { bytesMax, fillMsMax, restMs }),
  )
  const tables = new Map<ScopeId, StepTable>()
  const tableOf = (scope: Scope): StepTable => {
    const table = tables.get(scopeId(scope)) ?? createStepTable()
    tables.set(scopeId(scope), table)
    return table
  }
  async function ready(scope: Scope, { signal }: { signal: AbortSignal }): Promise<void> {
    if (arrivals === undefined) return
    const any = AbortSignal.any([signal, nothingMore.signal])
    const limit = delay(readyMsMax, undefined, { signal: any, ref: false }).catch(() => {})
    await Promise.race([arrivals.want(scope), limit])
  }

  /** @returns whether the step has mounts that matter here. */
  async function begin(daemon: SteppingDaemon, stepId: string, bundle: string): Promise<boolean> {
    const { scope } = daemon
    const spec = await readStepSpec(bundle)
    const step = tableOf(scope).find(spec)
    if (step === undefined) return false
    const named = step.mounts.filter(({ variant }) => variant !== undefined)
    if (named.length === 0) return false
    const held = await Promise.all(
      named.map(async ({ id, variant, target }) => {
        const source = spec.mounts.find((mount) => mount.target === target)?.source
        const place = source === undefined ? undefined : await locateMount(source, daemon.pid)
        if (place === undefined || variant === undefined) return false
        const name = { id, variant, platform }
        const asksForEmpty = step.ignoresCache
        const outcome = await live.hold({ stepId, daemon, place, name, target, asksForEmpty })
        log.debug({ scope: scopeId(scope), mount: id, outcome }, 'a step with a cache mount starts')
        return true
      }),
    )
    return held.some(Boolean)
  }

  /** Of mounts that this node has filled already there is nothing to bring. */
  async function bringAhead(scope: Scope, ids: ReadonlySet<string>): Promise<void> {
    await ready(scope, { signal: nothingMore.signal })
    const here = new Set(
      local
        .all()
        .filter((mount) => scopeId(mount.scope) === scopeId(scope))
        .map(({ name }) => keyOfMount(name)),
    )
    const names = new Map(
      known
        .of(scope)
        .map(({ document }) => document.mount)
        .filter((name) => ids.has(name.id) && name.platform === platform)
        .map((name) => [keyOfMount(name), name]),
    )
    for (const [key, name] of names) {
      if (here.has(key)) continue
      for (const { document } of known.heads(scope, name)) {
        for (const blob of blobsOf(document)) {
          await sources?.bring(scope, blob, { isAhead: true, signal: nothingMore.signal })
        }
      }
    }
  }

  async function forgetProject(project: string): Promise<number> {
    let count = 0
    for (const scope of known.scopes().filter((each) => each.project === project)) {
      const all = known.of(scope).map(({ digest }) => digest)
      await known.forget(scope, all)
      count += all.length
    }
    return count
  }

  async function resetMount(scope: Scope, name: MountName): Promise<number> {
    const heads = known.heads(scope, name)
    const here = local
      .all()
      .filter(
        (mount) =>
          scopeId(mount.scope) === scopeId(scope) && keyOfMount(mount.name) === keyOfMount(name),
      )
    for (const mount of here) await emptyLocal(mount)
    if (heads.every(({ document }) => document.files === 0)) return 0
    await known.publishEmpty(scope, name)
    return heads.length
  }

  /** One that a step has at present keeps what it has; it is only not told of any more. */
  async function emptyLocal(mount: LocalMount): Promise<void> {
    const { snapshot, content } = mount
    if (live.isHeld(snapshot)) return
    await local.remove(snapshot)
    const aside = path.join(path.dirname(snapshot), `reset-${randomBytes(8).toString('hex')}`)
    try {
      const { mode, uid, gid } = await lstat(content)
      await rename(content, aside)
      await mkdir(content, { mode: mode & 0o7777 })
      await chown(content, uid, gid)
      await rm(aside, { recursive: true })
    } catch (error) {
      log.warn(
        { mount: mount.name.id, reason: describeError(error) },
        'a cache mount is not emptied',
      )
    }
  }

  function list(): MountState[] {
    const states = new Map<string, MountState>()
    const names = [
      ...known
        .scopes()
        .flatMap((scope) =>
          known.of(scope).map(({ document }) => ({ scope, name: document.mount })),
        ),
      ...local.all(),
    ]
    for (const { scope, name } of names) {
      const key = `${scopeId(scope)} ${keyOfMount(name)}`
      if (states.has(key)) continue
      const heads = known.heads(scope, name).filter(({ document }) => document.files > 0)
      const newest = heads.at(-1)?.document
      const here = local
        .all()
        .filter(
          (each) =>
            scopeId(each.scope) === scopeId(scope) && keyOfMount(each.name) === keyOfMount(name),
        )
      const lastUsed = here.map(({ lastUsedAtMs }) => lastUsedAtMs)
      const saved = [...here, ...heads.map(({ document }) => document)]
        .map(({ coldMs, warmMs }) => savedMs({ coldMs, warmMs }))
        .filter((each) => each !== undefined)
      states.set(key, {
        scope,
        id: shownId(name.id),
        platform: name.platform,
        kind: newest?.kind ?? 'newest',
        bytes: newest?.bytes ?? 0,
        files: newest?.files ?? 0,
        snapshots: heads.length,
        lastUsedAtMs: lastUsed.length === 0 ? undefined : Math.max(...lastUsed),
        secondsSaved: saved.length === 0 ? undefined : Math.max(...saved) / 1000,
      })
    }
    return [...states.values()]
  }

  const owned = cleanUp.move()
  return {
    steps: {
      async serve(daemon) {
        await using serving = new AsyncDisposableStack()
        serving.defer(() => live.endAll(daemon))
        serving.use(
          await serveSteps({ log }, daemon, {
            begin: (id, bundle) => begin(daemon, id, bundle),
            kill: live.kill,
            end: live.end,
          }),
        )
        return serving.move()
      },
    },
    learn: (scope) => tableOf(scope).learn(),
    ready,
    expect(scope, ids) {
      if (ids.length === 0) return
      bringAhead(scope, new Set(ids)).catch((error: unknown) => {
        const reason = describeError(error)
        log.info({ scope: scopeId(scope), reason }, 'a cache mount was not brought ahead')
      })
    },
    list,
    async reset(project, id) {
      if (id === undefined) return forgetProject(project)
      let count = 0
      const all = [
        ...known
          .scopes()
          .flatMap((scope) =>
            known.of(scope).map(({ document }) => ({ scope, name: document.mount })),
          ),
        ...local.all().map(({ scope, name }) => ({ scope, name })),
      ].filter(({ scope, name }) => scope.project === project && shownId(name.id) === id)
      const once = new Map(
        all.map((each) => [`${scopeId(each.scope)} ${keyOfMount(each.name)}`, each]),
      )
      for (const { scope, name } of once.values()) count += await resetMount(scope, name)
      return count
    },
    idle: () => live.idle(),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

/** The Dockerfile frontend puts a namespace and a slash before what people write (convert_runmount.go, v0.34.2). */
function shownId(id: string): string {
  return id.startsWith('/') ? id.slice(1) : id
}
