/**
 * Keeps every project within its policy: BuildKit's states and the cache store's blobs together, by age and by
 * bytes. What a build uses stays, whatever it takes; a scope that stays over its limit by more than a tenth
 * because it is never idle gets no new leases until it has been.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { describeError } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import { type Scope, type ScopeId, scopeId } from '../../core/scope.ts'
import type { DaemonPool } from '../buildkit-runner/daemon/index.ts'
import type { CacheStore } from '../cache-store/index.ts'
import type { Hold, Scheduler } from '../scheduler/index.ts'
import type { MeasuredScope, Measurements } from './measure.ts'
import { planProject } from './plan-project.ts'

export interface PolicyKeeper extends Disposable {
  /** One run at a time; whoever calls sees to that. */
  run(options: { signal: AbortSignal }): Promise<void>
  /** Scopes that are held back, and idle by now: it is time for another run. */
  isAwaited(): boolean
}

export interface PolicyKeeperDeps {
  daemons: DaemonPool
  store: CacheStore
  scheduler: Scheduler
  measurements: Measurements
  log: Logger
}

const dayMs = 86_400_000
/** States that BuildKit could not open are kept for so long, for whoever wants to look. */
const setAsideMs = 7 * dayMs
/** Over its limit by this share, a scope that is never idle is held back. */
const toleratedShare = 0.1
/** So long at most, and not again for as long: better over the limit than no builds. */
const holdMsMax = 2 * 60_000
/** What goes from the store may have kept BuildKit's names of the same files: then those count, and it goes on. */
const roundsMax = 3

export function createPolicyKeeper(deps: PolicyKeeperDeps): PolicyKeeper {
  const { daemons, store, scheduler, measurements, log } = deps
  const startedAtMs = Date.now()
  /** The last use after which a state was last looked through for what is too old. */
  const agedAtMs = new Map<ScopeId, number>()
  const holds = new Map<ScopeId, { scope: Scope; hold: Hold | undefined; sinceMs: number }>()

  async function keepProject(
    project: string,
    scopes: readonly Scope[],
    signal: AbortSignal,
  ): Promise<void> {
    const policy = store.policyOf(project)
    for (const scope of scopes) await keepAge(scope, policy.daysMax * dayMs, signal)
    for (let round = 0; round < roundsMax; round++) {
      const states = await Promise.all(scopes.map((scope) => measurements.scope(scope, { signal })))
      const storeBytes = store.projectBytes(project)
      const plan = planProject(states, { storeBytes, bytesMax: policy.bytesMax })
      let isChanged = false
      for (const state of states) {
        const bytesMax = plan.limits.get(scopeId(state.scope))
        const overBytes = bytesMax === undefined ? 0 : state.netBytes - bytesMax
        if (bytesMax === undefined) release(state.scope)
        else if (daemons.isInUse(state.scope)) {
          if (overBytes > policy.bytesMax * toleratedShare) holdBack(state.scope)
        } else {
          isChanged = (await shrink(state, bytesMax, signal)) || isChanged
          release(state.scope)
        }
      }
      store.setRoom(project, plan.storeRoom)
      const isOver = storeBytes > plan.storeRoom
      if (isOver) isChanged = (await store.evict()).blobs > 0 || isChanged
      if (!isChanged) return
    }
  }

  /** BuildKit goes by what its steps and layers were last used; a state of which nothing was used goes whole. */
  async function keepAge(scope: Scope, unusedMsMax: number, signal: AbortSignal): Promise<void> {
    if (daemons.isInUse(scope)) return
    const { lastUsedAtMs, copies } = await measurements.scope(scope, { signal })
    if (Date.now() - lastUsedAtMs > unusedMsMax && lastUsedAtMs > 0) {
      const { bytesFreed } = await daemons.reset(scope)
      measurements.changed(scope)
      log.info(
        { scope: scopeId(scope), bytesFreed },
        'a BuildKit state that nobody uses is deleted',
      )
      return
    }
    await daemons.removeSetAside(scope, Date.now() - setAsideMs)
    // Not for states that nobody has used since this node started: their daemons need not run for it.
    if (lastUsedAtMs <= (agedAtMs.get(scopeId(scope)) ?? startedAtMs)) return
    agedAtMs.set(scopeId(scope), lastUsedAtMs)
    const measure = async (): Promise<number> => 0
    await daemons.prune(scope, { bytesMax: Number.POSITIVE_INFINITY, unusedMsMax, measure })
    measurements.changed(scope)
    for (const copy of copies) {
      if (daemons.isInUse(scope)) return
      await store.merge(copy, { signal })
    }
  }

  /** @returns whether anything went. */
  async function shrink(
    { scope, ownSharedBytes }: MeasuredScope,
    bytesMax: number,
    signal: AbortSignal,
  ): Promise<boolean> {
    const outcome = await daemons.prune(scope, {
      bytesMax,
      bytesUncounted: ownSharedBytes,
      insist: holds.get(scopeId(scope))?.hold !== undefined,
      measure: async () => {
        return (await measurements.scope(scope, { fresh: true, signal })).netBytes
      },
    })
    measurements.changed(scope)
    return outcome.type === 'pruned' && outcome.bytesAfter < outcome.bytesBefore
  }

  function holdBack(scope: Scope): void {
    const id = scopeId(scope)
    const known = holds.get(id)
    const nowMs = performance.now()
    if (known !== undefined) {
      if (nowMs - known.sinceMs > holdMsMax) {
        known.hold?.[Symbol.dispose]()
        known.hold = undefined
      }
      if (nowMs - known.sinceMs < 2 * holdMsMax) return
    }
    const reason = `the cache of ${id} on the node is over its limit and is made smaller first`
    holds.set(id, { scope, hold: scheduler.hold(scope, reason), sinceMs: nowMs })
    log.warn({ scope: id }, 'a scope that is never idle is over its limit: its new builds wait')
  }

  function release(scope: Scope): void {
    holds.get(scopeId(scope))?.hold?.[Symbol.dispose]()
    holds.delete(scopeId(scope))
  }

  return {
    async run({ signal }) {
      const scopes = Map.groupBy(daemons.scopes(), ({ project }) => project)
      for (const id of store.usage().scopes.keys()) {
        const project = id.slice(0, id.indexOf('/'))
        if (!scopes.has(project)) scopes.set(project, [])
      }
      for (const [project, ofProject] of scopes) {
        if (signal.aborted) return
        try {
          await keepProject(project, ofProject, signal)
        } catch (error) {
          if (signal.aborted) return
          log.warn({ project, reason: describeError(error) }, 'could not keep a cache policy')
          for (const scope of ofProject) release(scope)
          // Not at once again for the next one: whatever is wrong may be the disk's.
          await delay(100, undefined, { signal }).catch(() => {})
        }
      }
    },
    isAwaited: () =>
      [...holds.values()].some(
        ({ scope, hold, sinceMs }) =>
          hold !== undefined &&
          (!daemons.isInUse(scope) || performance.now() - sinceMs > holdMsMax),
      ),
    [Symbol.dispose]() {
      for (const { hold } of holds.values()) hold?.[Symbol.dispose]()
      holds.clear()
    },
  }
}
