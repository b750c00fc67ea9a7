/**
 * Which steps have which mounts at present, and what follows from that:
 *
 *   free ──step begins──▶ filling (where it is empty) ──▶ held ──last step ends──▶ resting ──▶ taking ──▶ free
 *                                                          ▲                          │           │
 *                                                          └────────step begins───────┴───────────┘
 */
import { readdir, stat } from 'node:fs/promises'
import path from 'node:path'
import PQueue from 'p-queue'
import { describeError, hasErrno, toHearthError } from '../../../core/errors.ts'
import type { Logger } from '../../../core/log.ts'
import type { Scope } from '../../../core/scope.ts'
import type { CacheStore } from '../../cache-store/index.ts'
import type { BlobSources } from '../../cache-store/sources/index.ts'
import type { SteppingDaemon } from '../daemon/index.ts'
import { keyOfMount } from './document.ts'
import { emptyAgain, fillMount } from './fill-mount.ts'
import type { FillOutcome, MountName } from './index.ts'
import { type KnownSnapshots, lineageOf } from './known-snapshots.ts'
import type { LocalMount, LocalMounts } from './local-mounts.ts'
import type { MountPlace } from './locate.ts'
import { createPace } from './pace.ts'
import { takeSnapshot } from './take-snapshot.ts'

export interface LiveMountsDeps {
  store: CacheStore
  sources: BlobSources | undefined
  known: KnownSnapshots
  local: LocalMounts
  /** Gets what others know of the scope, within limits; never rejects. */
  ready: (scope: Scope, options: { signal: AbortSignal }) => Promise<void>
  log: Logger
}

export interface LiveMountsOptions {
  bytesMax: number
  fillMsMax: number
  restMs: number
}

export interface LiveMounts extends AsyncDisposable {
  /** A step is about to start. Resolves when its mount is as good as it gets. */
  hold(step: StepHold): Promise<FillOutcome>
  /** It is to end now: what it leaves may be half-written. */
  kill(stepId: string): void
  end(stepId: string): void
  /** All steps of a daemon have ended with it. */
  endAll(daemon: SteppingDaemon): void
  isHeld(snapshot: string): boolean
  idle(): Promise<void>
}

export interface StepHold {
  readonly stepId: string
  readonly daemon: SteppingDaemon
  readonly place: MountPlace
  readonly name: MountName
  readonly target: string
  readonly asksForEmpty: boolean
}

interface Holder {
  readonly fill: AbortController
  openedAt: string
  startedAtMs: number
  wasEmpty: boolean
  killed: boolean
}

interface LiveMount {
  /** See MountPlace. */
  readonly snapshot: string
  readonly scope: Scope
  daemon: SteppingDaemon
  readonly holders: Map<string, Holder>
  filling: Promise<FillOutcome> | undefined
  taking: AbortController | undefined
  rest: NodeJS.Timeout | undefined
  tries: number
}

const triesMax = 5

export function createLiveMounts(deps: LiveMountsDeps, options: LiveMountsOptions): LiveMounts {
  const { store, sources, known, local, log } = deps
  const mounts = new Map<string, LiveMount>()
  const pace = createPace()
  const stopping = new AbortController()
  /** One at a time: nobody waits for a snapshot, and builds run beside it. */
  const turns = new PQueue({ concurrency: 1 })
  let settling = 0
  const quiet = new EventTarget()

  /** Keeps `idle` waiting; never rejects. */
  async function settle(work: Promise<unknown>, what: string): Promise<void> {
    settling += 1
    try {
      await work
    } catch (error) {
      log.warn({ reason: describeError(error) }, what)
    } finally {
      settling -= 1
      quiet.dispatchEvent(new Event('change'))
    }
  }

  async function fill(live: LiveMount, step: StepHold, holder: Holder): Promise<FillOutcome> {
    const { scope } = live
    const { place, name, daemon, target } = step
    await deps.ready(scope, { signal: stopping.signal })
    const heads = known.heads(scope, name)
    const fresh: LocalMount = {
      version: 1,
      snapshot: place.snapshot,
      content: place.content,
      scope,
      name,
      kind: 'newest',
      targets: [target],
      parents: [],
      doubts: [],
      lastUsedAtMs: Date.now(),
    }
    if (step.asksForEmpty) {
      // What comes of it takes the place of all that it was not to begin with.
      await local.putBase(place.snapshot, undefined)
      await local.put({ ...fresh, parents: lineageOf(heads) })
      return { type: 'left', reason: 'asked for empty' }
    }
    const signal = AbortSignal.any([
      AbortSignal.timeout(options.fillMsMax),
      holder.fill.signal,
      stopping.signal,
    ])
    const { temporary, pid } = daemon
    const filled = await fillMount(
      { store, sources, local, pace, log },
      { scope, name, place, temporary, pid },
      heads,
      { signal },
    )
    const newest = heads.at(-1)?.document
    const { mount: { base, ...more } = { base: undefined }, ...outcome } = filled
    await local.putBase(place.snapshot, base)
    await local.put({ ...fresh, coldMs: newest?.coldMs, warmMs: newest?.warmMs, ...more })
    return outcome
  }

  async function hold(step: StepHold): Promise<FillOutcome> {
    const { place, daemon, stepId } = step
    const live: LiveMount = mounts.get(place.snapshot) ?? {
      snapshot: place.snapshot,
      scope: daemon.scope,
      daemon,
      holders: new Map(),
      filling: undefined,
      taking: undefined,
      rest: undefined,
      tries: 0,
    }
    mounts.set(place.snapshot, live)
    live.daemon = daemon
    const others = live.holders.size
    const holder: Holder = {
      fill: new AbortController(),
      openedAt: '',
      startedAtMs: performance.now(),
      wasEmpty: false,
      killed: false,
    }
    live.holders.set(stepId, holder)
    clearTimeout(live.rest)
    live.rest = undefined
    live.taking?.abort()
    if (local.wasOpen(place.snapshot)) await doubtEarlierLife(place.snapshot)
    let outcome: FillOutcome = { type: 'left', reason: 'not empty' }
    if (live.filling !== undefined) {
      outcome = await live.filling
    } else if (await isEmptyNow(step)) {
      if (others > 0) outcome = { type: 'left', reason: 'in use' }
      else {
        live.filling = fill(live, step, holder).finally(() => {
          live.filling = undefined
        })
        outcome = await live.filling
      }
    } else if (!isKnown(step)) await adopt(step)
    holder.wasEmpty = outcome.type === 'left' && outcome.reason !== 'not empty'
    holder.openedAt = await local.open(place.snapshot)
    holder.startedAtMs = performance.now()
    return outcome
  }

  async function isEmptyNow({ place, daemon }: StepHold): Promise<boolean> {
    if (await local.isHalfFilled(place.snapshot)) await emptyAgain(local, place, daemon.pid)
    return await isEmpty(place.content)
  }

  /** BuildKit may begin anew with its numbers, after its state was deleted. */
  function isKnown({ place, name }: StepHold): boolean {
    const mount = local.get(place.snapshot)
    return mount !== undefined && keyOfMount(mount.name) === keyOfMount(name)
  }

  /** A mount with content of which nothing is known: it was there before this was looked at. */
  async function adopt({ place, daemon, name, target }: StepHold): Promise<void> {
    await local.putBase(place.snapshot, undefined)
    await local.put({
      version: 1,
      snapshot: place.snapshot,
      content: place.content,
      scope: daemon.scope,
      name,
      kind: 'newest',
      targets: [target],
      parents: [],
      doubts: [],
      lastUsedAtMs: Date.now(),
    })
  }

  /** A step of an earlier life was never seen to end: whatever came since it began may be half-written. */
  async function doubtEarlierLife(snapshot: string): Promise<void> {
    const from = await local.openedAt(snapshot)
    await local.close(snapshot)
    const mount = local.get(snapshot)
    if (mount === undefined || from === undefined) return
    await local.put({ ...mount, doubts: [...mount.doubts, [from, await local.now()]] })
  }

  async function finish(live: LiveMount, stepId: string, holder: Holder): Promise<void> {
    const { snapshot } = live
    const tookMs = performance.now() - holder.startedAtMs
    const mount = local.get(snapshot)
    if (mount !== undefined) {
      const doubt = holder.killed ? [[holder.openedAt, await local.now()] as const] : []
      await local.put({
        ...mount,
        doubts: [...mount.doubts, ...doubt],
        lastUsedAtMs: Date.now(),
        ...(holder.killed ? {} : timed(mount, holder.wasEmpty, tookMs)),
      })
    }
    live.holders.delete(stepId)
    if (live.holders.size > 0) return
    await local.close(snapshot)
    live.tries = 0
    takeLater(live, options.restMs)
  }

  function takeLater(live: LiveMount, waitMs: number): void {
    clearTimeout(live.rest)
    if (stopping.signal.aborted) return
    live.rest = setTimeout(() => {
      void settle(
        turns.add(() => take(live)),
        'no snapshot of a cache mount',
      )
    }, waitMs)
    live.rest.unref()
    quiet.dispatchEvent(new Event('change'))
  }

  async function take(live: LiveMount): Promise<void> {
    live.rest = undefined
    const { snapshot, scope, daemon } = live
    const mount = local.get(snapshot)
    if (mount === undefined || live.holders.size > 0 || stopping.signal.aborted) return
    const abort = new AbortController()
    live.taking = abort
    using pin = store.pin(scope, [])
    try {
      const base = await local.base(snapshot)
      const outcome = await takeSnapshot(
        { store },
        { ...mount, base },
        {
          bytesMax: options.bytesMax,
          isThere: (blob) => isThere(scope, blob),
          pin,
          temporary: daemon.temporary,
          signal: AbortSignal.any([abort.signal, stopping.signal]),
        },
      )
      if (outcome.type === 'none') {
        log.debug(
          { mount: mount.name.id, reason: outcome.reason },
          'no new snapshot of a cache mount',
        )
        if (outcome.reason === 'in use') again(live)
        if (outcome.reason === 'empty') await sayEmpty(mount)
        return
      }
      const { document, bytesAdded } = outcome
      const digest = await known.publish(scope, document)
      const parents = [digest, ...document.replaces]
      const { base: taken, ...rest } = outcome.mount
      await local.putBase(snapshot, taken)
      await local.put({ ...rest, ...latest(snapshot), parents })
      const { bytes, files } = document
      log.info(
        { mount: mount.name.id, bytes, files, bytesAdded },
        'a cache mount was taken a snapshot of',
      )
    } catch (error) {
      // The next step has it, and its end comes.
      if (abort.signal.aborted || stopping.signal.aborted) return
      if (!(await isFolder(snapshot))) return await local.remove(snapshot)
      log.info(
        { mount: mount.name.id, reason: describeError(error) },
        'no snapshot of a cache mount yet',
      )
      if (toHearthError(error).code !== 'exhausted') again(live)
    } finally {
      live.taking = undefined
    }
  }

  /** Somebody has emptied it on purpose: nothing of what was there before comes back. */
  async function sayEmpty({ scope, name, snapshot, parents }: LocalMount): Promise<void> {
    const heads = known.heads(scope, name)
    const isNews = heads.some(
      ({ digest, document }) => document.files > 0 && parents.includes(digest),
    )
    if (!isNews) return
    const digest = await known.publishEmpty(scope, name)
    await local.putBase(snapshot, undefined)
    const mount = local.get(snapshot)
    if (mount !== undefined) await local.put({ ...mount, parents: [digest, ...parents] })
  }

  /** What steps have said meanwhile of what the snapshot does not say. */
  function latest(snapshot: string): Partial<LocalMount> {
    const now = local.get(snapshot)
    if (now === undefined) return {}
    const { doubts, coldMs, warmMs, lastUsedAtMs } = now
    return { doubts, coldMs, warmMs, lastUsedAtMs }
  }

  function again(live: LiveMount): void {
    live.tries += 1
    if (live.tries < triesMax && live.holders.size === 0)
      takeLater(live, options.restMs * 2 ** live.tries)
  }

  const isThere = (scope: Scope, blob: { digest: `sha256:${string}`; size: number }): boolean =>
    store.stat(scope, blob.digest) !== undefined || sources?.whereabouts(scope, blob) !== undefined

  const isQuiet = (): boolean =>
    settling === 0 &&
    [...mounts.values()].every(({ rest, holders }) => rest === undefined && holders.size === 0)

  return {
    hold,
    kill(stepId) {
      for (const { holders } of mounts.values()) {
        const holder = holders.get(stepId)
        if (holder === undefined) continue
        holder.killed = true
        if (holders.size === 1) holder.fill.abort()
      }
    },
    end(stepId) {
      for (const live of mounts.values()) {
        const holder = live.holders.get(stepId)
        if (holder === undefined) continue
        void settle(finish(live, stepId, holder), 'the end of a step is not noted')
      }
    },
    endAll({ socket }) {
      for (const live of mounts.values()) {
        if (live.daemon.socket !== socket) continue
        for (const [stepId, holder] of live.holders) {
          holder.killed = true
          holder.fill.abort()
          void settle(finish(live, stepId, holder), 'the end of a step is not noted')
        }
      }
    },
    isHeld: (snapshot) => (mounts.get(snapshot)?.holders.size ?? 0) > 0,
    idle: () =>
      new Promise((resolve) => {
        const check = (): void => {
          if (!isQuiet()) return
          quiet.removeEventListener('change', check)
          resolve()
        }
        quiet.addEventListener('change', check)
        check()
      }),
    async [Symbol.asyncDispose]() {
      stopping.abort()
      for (const { rest } of mounts.values()) clearTimeout(rest)
      await turns.onIdle()
      while (settling > 0) {
        await new Promise((resolve) => quiet.addEventListener('change', resolve, { once: true }))
      }
    },
  }
}

/** The most that an empty mount has cost, and the least that a filled one has. */
function timed(mount: LocalMount, wasEmpty: boolean, tookMs: number): Partial<LocalMount> {
  const ms = Math.round(tookMs)
  if (wasEmpty) return { coldMs: Math.max(mount.coldMs ?? 0, ms) }
  return { warmMs: Math.min(mount.warmMs ?? ms, ms) }
}

async function isEmpty(folder: string): Promise<boolean> {
  try {
    return (await readdir(folder)).length === 0
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return true
    throw error
  }
}

async function isFolder(folder: string): Promise<boolean> {
  return await stat(path.join(folder, '.')).then(
    () => true,
    () => false,
  )
}
