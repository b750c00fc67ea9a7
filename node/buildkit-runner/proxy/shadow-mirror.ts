/**
 * Keeps the shadow build in step with the client: it loads what the client has loaded, and evaluates what
 * the client evaluates or returns, never more.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { type Operation, readOperations } from '../../../plan/operations.ts'
import { Definition } from '../../../proto/generated/buildkit/ops.ts'
import { finishedResults } from './finished-steps.ts'
import type { ShadowBuild, ShadowOutcome } from './shadow-build.ts'
import { type ResultRef, withoutIgnoreCache } from './solve-edits.ts'
import type { StepWatch } from './step-watch.ts'

export interface ShadowMirror {
  /** All operations that the client's results are made of. */
  readonly operations: readonly Operation[]
  /** What they were read from, encoded. */
  definitions(): readonly Uint8Array[]
  /**
   * The client has these results, not evaluated yet. Resolves when the shadow holds the same operations:
   * the client's answer waits for it, so that neither can finish a step before the other knows of it.
   * @param imports encoded cache imports of the client's solve.
   */
  loaded(refs: readonly ResultRef[], imports: Uint8Array): Promise<void>
  /** The same for a client that leaves the frontend to BuildKit, before BuildKit begins. */
  loadedByFrontend(bridgeSolveMessage: Uint8Array, imports: Uint8Array): Promise<ResultRef[]>
  /** The client evaluates or returns these results. */
  evaluating(ids: readonly string[]): void
  /**
   * For a build that came to no end: keeps what it has finished, and lets go of what failed or still runs.
   * Resolves within `limitMs` with whether there is anything to `finish`.
   */
  keepFinished(finished: ReadonlySet<string>, options: { limitMs: number }): Promise<boolean>
  finish(): Promise<ShadowOutcome>
  cancel(): void
  /** Cancels and waits until BuildKit has let go of the shadow's operations. */
  cancelled(): Promise<void>
}

/** @param onDefinition called with whatever may run, before it does. */
export function createShadowMirror(
  makeShadow: () => ShadowBuild,
  watch: StepWatch,
  onDefinition: (definition: Uint8Array) => void = () => {},
): ShadowMirror {
  let shadow = makeShadow()
  const operations: Operation[] = []
  const results: { refs: readonly ResultRef[]; imports: Uint8Array }[] = []
  let late: Promise<void> = Promise.resolve()

  const ignoringCache = (): Operation[] => operations.filter((operation) => operation.ignoresCache)

  function learn(refs: readonly ResultRef[], imports: Uint8Array): void {
    results.push({ refs, imports })
    for (const { definition } of refs) {
      if (definition === undefined) continue
      onDefinition(definition)
      operations.push(...readOperations(Definition.decode(definition)))
    }
  }

  /**
   * A client that ignores the cache wants its steps to run, and BuildKit gives two builds of one step the
   * wish of whoever came first. So the shadow comes second and without that wish: it shares the run, and
   * leaves alone the cache mounts that a second "no cache" would empty again.
   */
  async function evaluateLate(ids: readonly string[]): Promise<void> {
    await watch.started(new Set(ignoringCache().map((operation) => operation.vertexDigest)))
    for (const { refs, imports } of results) {
      const stripped = refs.map(({ id, definition }) => ({
        id,
        definition: definition === undefined ? undefined : withoutIgnoreCache(definition),
      }))
      await shadow.load(stripped, imports)
    }
    void shadow.evaluate(ids)
  }

  const definitions = (): Uint8Array[] =>
    results.flatMap(({ refs }) =>
      refs.flatMap(({ definition }) => (definition === undefined ? [] : [definition])),
    )

  return {
    operations,
    definitions,
    async loaded(refs, imports) {
      learn(refs, imports)
      if (ignoringCache().length === 0) await shadow.load(refs, imports)
    },
    async loadedByFrontend(message, imports) {
      const refs = await shadow.loadFrontend(message)
      learn(refs, imports)
      if (ignoringCache().length > 0) {
        await shadow.cancelled()
        shadow = makeShadow()
      }
      return refs
    },
    evaluating(ids) {
      if (ids.length === 0) return
      if (ignoringCache().length === 0) void shadow.evaluate(ids)
      else {
        late = late.then(() => evaluateLate(ids))
        late.catch(() => {}) // `finish` sees it; after `cancel` there is nobody to.
      }
    },
    async keepFinished(finished, { limitMs }) {
      const held = shadow
      try {
        const partial = finishedResults(definitions(), finished)
        if (partial.length === 0) return false
        // A second shadow takes over what is done while the first one holds it. The first one goes then, and
        // with it whatever failed: BuildKit would hand that failure to everybody who tries again.
        late = Promise.resolve()
        shadow = makeShadow()
        const imports = Buffer.concat(uniqueBytes(results.map((result) => result.imports)))
        const taking = shadow
          .load(partial, imports)
          .then(() => shadow.evaluate(partial.map(({ id }) => id)))
        const taken = await Promise.race([taking, delay(limitMs, false, { ref: false })])
        if (!taken) shadow.cancel()
        return taken
      } finally {
        held.cancel()
      }
    },
    async finish() {
      await late
      return shadow.finish()
    },
    cancel: () => shadow.cancel(),
    cancelled: () => shadow.cancelled(),
  }
}

function uniqueBytes(values: readonly Uint8Array[]): Uint8Array[] {
  const byText = new Map(values.map((value) => [Buffer.from(value).toString('latin1'), value]))
  return [...byText.values()]
}
