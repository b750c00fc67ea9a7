/**
 * What this node has of the results of steps, told to the others: `hot` while they are in BuildKit's present state,
 * `held` while all their layers are in the store. What an entry weighs is what the result's layers weigh together.
 *
 * Hot steps are known from the builds of this life alone: after a restart they are told as held, until a build has
 * used them again. A price may be too high for a while, but never promises what went.
 */

import { type Digest, isDigest } from '../../core/digest.ts'
import { describeError } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import { type Scope, scopeId } from '../../core/scope.ts'
import { compareKeys, type Entry, type IndexKey, keyOfStep } from '../../mesh/index.ts'
import { type Step, StepOutcome } from '../../proto/generated/hearth/v1/build.ts'
import type { Records } from '../buildkit-runner/records/index.ts'
import type { BlobInfo, CacheStore } from '../cache-store/index.ts'
import type { WarmSteps } from '../membership-load.ts'
import type { FurtherAdverts, OwnAdverts } from '../peering/index.ts'

export interface StepAdverts extends FurtherAdverts, Disposable {
  /** A build here has had the results of these steps. */
  used(scope: Scope, keys: Iterable<Digest>): void
  /** The scope's BuildKit has another state, or one that was pruned. */
  cooled(scope: Scope): void
  /** As it was told last. */
  warmSteps(project: string): WarmSteps
}

export interface StepAdvertsDeps {
  records: Pick<Records, 'stepLayers' | 'onChange' | 'scopes'>
  store: Pick<CacheStore, 'stat' | 'watch'>
  adverts: Pick<OwnAdverts, 'publish' | 'withdraw'>
  log: Logger
}

/** What is known of one scope's steps. */
interface ScopeSteps {
  readonly scope: Scope
  layers: ReadonlyMap<Digest, readonly BlobInfo[]>
  /** The layers have to be asked for again. */
  isStale: boolean
  /** By layer, the steps that have it. */
  readonly users: Map<Digest, Digest[]>
  readonly hot: Set<Digest>
  /** By step key. */
  readonly told: Map<Digest, Entry>
}

/** Steps of one scope that are remembered as hot; beyond it all of them count as held. */
const hotMax = 50_000
/** Told in one turn of the event loop. */
const stepsPerTurn = 500

/** Of the steps of a solve, those whose results are in BuildKit's state now. */
export function keysInState(steps: readonly Step[]): Digest[] {
  const isThere = ({ outcome }: Step): boolean =>
    outcome === StepOutcome.STEP_OUTCOME_RAN || outcome === StepOutcome.STEP_OUTCOME_REUSED
  return steps
    .filter(isThere)
    .map(({ key }) => key)
    .filter(isDigest)
}

/** @param options.gatherMs how long changes gather. Default 300. */
export function createStepAdverts(
  deps: StepAdvertsDeps,
  options: { gatherMs?: number } = {},
): StepAdverts {
  const { records, store, adverts, log } = deps
  const scopes = new Map<string, ScopeSteps>()
  const changed = new Set<ScopeSteps>()
  let underWay: { readonly steps: ScopeSteps; readonly keys: Digest[] } | undefined
  let timer: NodeJS.Timeout | undefined
  let isClosed = false

  function stepsOf(scope: Scope): ScopeSteps {
    const id = scopeId(scope)
    const known = scopes.get(id) ?? {
      ...{ scope, layers: new Map(), isStale: true },
      ...{ users: new Map(), hot: new Set<Digest>(), told: new Map() },
    }
    scopes.set(id, known)
    return known
  }

  function tellSoon(steps: ScopeSteps): void {
    changed.add(steps)
    if (!isClosed) timer ??= setTimeout(tellNext, options.gatherMs ?? 300)
  }

  /** A few steps in each turn of the event loop: a scope may have tens of thousands. */
  function tellNext(): void {
    const [next] = changed
    if (underWay === undefined && next !== undefined) {
      changed.delete(next)
      underWay = begin(next)
    }
    if (underWay !== undefined) {
      tell(underWay.steps, underWay.keys.splice(-stepsPerTurn))
      if (underWay.keys.length === 0) underWay = undefined
    }
    const isDone = underWay === undefined && changed.size === 0
    timer = isDone || isClosed ? undefined : setTimeout(tellNext, 0)
  }

  /** All of its steps that may have to be told. */
  function begin(steps: ScopeSteps): { steps: ScopeSteps; keys: Digest[] } | undefined {
    try {
      if (steps.isStale) readLayers(steps)
    } catch (error) {
      log.warn({ reason: describeError(error) }, 'the results of steps cannot be told')
      return undefined
    }
    const { layers, hot, told } = steps
    return { steps, keys: [...new Set([...layers.keys(), ...hot, ...told.keys()])] }
  }

  function readLayers(steps: ScopeSteps): void {
    steps.layers = records.stepLayers(steps.scope)
    steps.isStale = false
    steps.users.clear()
    for (const [key, layers] of steps.layers) {
      for (const { digest } of layers) {
        const users = steps.users.get(digest)
        if (users === undefined) steps.users.set(digest, [key])
        else users.push(key)
      }
    }
  }

  /** Says what is other than what was said. */
  function tell(steps: ScopeSteps, keys: readonly Digest[]): void {
    const { scope, layers, hot, told } = steps
    const isHere = rememberAnswers(({ digest, size }: BlobInfo) => {
      return store.stat(scope, digest)?.size === size
    })
    const entryOf = (key: Digest): Entry | undefined => {
      const chain = layers.get(key)
      const isHot = hot.has(key)
      if (!isHot && chain?.every(isHere) !== true) return undefined
      const size = (chain ?? []).reduce((sum, layer) => sum + layer.size, 0)
      return { key: keyOfStep(scope, key), size, heat: isHot ? 'hot' : 'held' }
    }
    const gained: Entry[] = []
    const lost: IndexKey[] = []
    for (const key of keys) {
      const [before, now] = [told.get(key), entryOf(key)]
      if (now === undefined) {
        if (before === undefined) continue
        lost.push(before.key)
        told.delete(key)
      } else if (before?.heat !== now.heat || before.size !== now.size) {
        gained.push(now)
        told.set(key, now)
      }
    }
    if (gained.length > 0) adverts.publish(gained).catch(missed)
    if (lost.length > 0) adverts.withdraw(lost).catch(missed)
  }

  function missed(error: unknown): void {
    if (isClosed) return
    log.warn({ reason: describeError(error) }, 'the others could not be told of steps')
  }

  /** Before anything is unlinked. What is hot is in BuildKit's state, whatever the store has. */
  async function withdrawUsers(digests: readonly Digest[]): Promise<void> {
    const lost: IndexKey[] = []
    for (const { users, told } of scopes.values()) {
      for (const key of digests.flatMap((digest) => users.get(digest) ?? [])) {
        const before = told.get(key)
        if (before?.heat !== 'held') continue
        lost.push(before.key)
        told.delete(key)
      }
    }
    if (lost.length > 0) await adverts.withdraw(lost).catch(missed)
  }

  const watching = store.watch({
    onGained({ digest }) {
      for (const steps of scopes.values()) if (steps.users.has(digest)) tellSoon(steps)
    },
    beforeLost: withdrawUsers,
  })
  const listening = records.onChange((scope) => {
    const steps = stepsOf(scope)
    steps.isStale = true
    tellSoon(steps)
  })
  for (const scope of records.scopes()) tellSoon(stepsOf(scope))

  return {
    used(scope, keys) {
      const steps = stepsOf(scope)
      if (steps.hot.size > hotMax) steps.hot.clear()
      for (const key of keys) steps.hot.add(key)
      tellSoon(steps)
    },
    cooled(scope) {
      const steps = stepsOf(scope)
      steps.hot.clear()
      tellSoon(steps)
    },
    warmSteps(project) {
      let [hotSteps, heldSteps] = [0, 0]
      for (const { scope, told } of scopes.values()) {
        if (scope.project !== project) continue
        for (const { heat } of told.values()) {
          if (heat === 'hot') hotSteps += 1
          else heldSteps += 1
        }
      }
      return { hotSteps, heldSteps }
    },
    entries: () =>
      [...scopes.values()]
        .flatMap(({ told }) => [...told.values()])
        .sort((a, b) => compareKeys(a.key, b.key)),
    [Symbol.dispose]() {
      isClosed = true
      clearTimeout(timer)
      listening[Symbol.dispose]()
      watching[Symbol.dispose]()
    },
  }
}

/** Steps share most of their layers. For one turn of the event loop: then the store may have others. */
function rememberAnswers(ask: (blob: BlobInfo) => boolean): (blob: BlobInfo) => boolean {
  const answers = new Map<Digest, boolean>()
  return (blob) => {
    const known = answers.get(blob.digest) ?? ask(blob)
    answers.set(blob.digest, known)
    return known
  }
}
