/**
 * The shadow build: a second gateway client beside the user's, whose only output is the cache. It loads
 * the same operations in the same session, so that BuildKit shares the work and no step runs twice; it
 * returns once the client's build has ended, which is when BuildKit starts to export; and it is reset when
 * nothing of the client's build is worth keeping.
 *
 *   idle ──load──▶ loaded ──evaluate──▶ evaluating ──finish──▶ exporting ──▶ exported | failed
 *     └──────────────┴─────────────────────┴──cancel──▶ cancelled
 */
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { HearthError } from '../../../core/errors.ts'
import { encodeField, encodeMapEntry, frameMessage } from '../../../proto/wire.ts'
import { bridgeEvaluate, bridgeReturn, bridgeSolve, buildIdHeader, controlSolve } from './paths.ts'
import {
  allowResults,
  type CacheEntry,
  encodeCacheEntry,
  type ResultRef,
  replyRefs,
} from './solve-edits.ts'
import { createStepWatch } from './step-watch.ts'
import { connectUpstream, type Reply } from './upstream.ts'

export interface ShadowBuild {
  /** Loads one graph per reference of the client's. Never rejects: without a shadow, nothing is kept. */
  load(refs: readonly ResultRef[], imports: Uint8Array): Promise<void>
  /**
   * Loads by asking the same frontend the same question, for clients that let BuildKit drive it.
   * Resolves with the graphs that came out.
   */
  loadFrontend(bridgeSolveMessage: Uint8Array): Promise<ResultRef[]>
  /**
   * Starts to evaluate what belongs to these references of the client's, side by side with the client.
   * Resolves with whether all of it could be, when that is known. Never rejects.
   */
  evaluate(clientRefs: readonly string[]): Promise<boolean>
  /** Exports the cache of what was evaluated. */
  finish(): Promise<ShadowOutcome>
  /** Resets everything; steps that only this build was waiting for end at once. */
  cancel(): void
  /** Cancels and resolves when BuildKit has let go of the operations, or after `letGoMs`. */
  cancelled(): Promise<void>
}

export type ShadowOutcome =
  | { type: 'exported' }
  | { type: 'nothing to export' }
  | { type: 'failed'; reason: string }

export interface ShadowOptions {
  /** buildkitd's socket. The shadow has a connection of its own, because it outlives the client's. */
  socket: string
  /** The client's session: local sources of the same session are the same operations. */
  session: string
  /** Encoded Control.Solve fields that both builds must agree on. */
  sharedFields: Uint8Array
  exportTo: CacheEntry
}

export function createShadowBuild(options: ShadowOptions): ShadowBuild {
  const ref = randomUUID().replaceAll('-', '')
  const headers = { [buildIdHeader]: ref }
  const cancelled = new AbortController()
  const upstream = connectUpstream(options.socket)
  /** Client's reference id -> the shadow's. */
  const loaded = new Map<string, string>()
  const evaluated = new Set<string>()
  let exporting: Promise<Reply> | undefined
  let trouble: string | undefined

  // Async, so that a connection that is gone is a rejection like any other failure.
  const bridge = async (path: string, message: Uint8Array): Promise<Reply> =>
    upstream.call(path, message, { headers, signal: cancelled.signal })

  /** Registers the solve; its reply comes when the export has ended. */
  function start(): void {
    exporting ??= upstream.call(
      controlSolve,
      Buffer.concat([
        encodeField(1, ref),
        options.sharedFields,
        encodeField(5, options.session),
        encodeField(8, encodeField(4, encodeCacheEntry(options.exportTo))),
        internal,
      ]),
      { signal: cancelled.signal },
    )
    exporting.catch(() => {}) // `finish` looks at it; a cancelled shadow has nobody to.
  }

  async function solve(message: Uint8Array): Promise<ResultRef[]> {
    start()
    const reply = await bridge(bridgeSolve, message)
    if (reply.status !== 0) throw new HearthError('internal', reply.statusMessage)
    return replyRefs(messageOf(reply))
  }

  function cancel(): void {
    // Resetting the solve alone leaves its running steps to run: the evaluations must go too, and the
    // connection carries both.
    cancelled.abort(new HearthError('cancelled', 'the shadow build was cancelled'))
    upstream[Symbol.dispose]()
  }

  return {
    async load(refs, imports) {
      try {
        await Promise.all(
          refs.map(async ({ id, definition }) => {
            if (definition === undefined || definition.length === 0) return
            const [own] = await solve(
              Buffer.concat([encodeField(1, definition), allowResults, imports]),
            )
            if (own !== undefined) loaded.set(id, own.id)
          }),
        )
      } catch (error) {
        trouble ??= `loading: ${textOf(error)}`
      }
    },
    async loadFrontend(message) {
      try {
        const refs = await solve(message)
        for (const { id } of refs) loaded.set(id, id)
        return refs
      } catch (error) {
        trouble ??= `asking the frontend: ${textOf(error)}`
        return []
      }
    },
    async evaluate(clientRefs) {
      const running = clientRefs.map(async (clientRef) => {
        const own = loaded.get(clientRef)
        if (own === undefined) return false
        if (evaluated.has(own)) return true
        evaluated.add(own)
        try {
          // A failing step fails the client's build too, which then cancels this one.
          return (await bridge(bridgeEvaluate, encodeField(1, own))).status === 0
        } catch {
          return false
        }
      })
      return (await Promise.all(running)).every((succeeded) => succeeded)
    },
    async finish() {
      try {
        if (trouble !== undefined) return { type: 'failed', reason: trouble }
        if (exporting === undefined || evaluated.size === 0) return { type: 'nothing to export' }
        const returned = await bridge(bridgeReturn, encodeField(1, encodeResult([...evaluated])))
        if (returned.status !== 0) return { type: 'failed', reason: returned.statusMessage }
        const reply = await exporting
        return reply.status === 0
          ? { type: 'exported' }
          : { type: 'failed', reason: reply.statusMessage }
      } catch (error) {
        return { type: 'failed', reason: textOf(error) }
      } finally {
        upstream[Symbol.dispose]()
      }
    },
    cancel,
    async cancelled() {
      if (exporting === undefined) {
        cancel()
        return
      }
      using second = connectUpstream(options.socket)
      const watch = createStepWatch(second)
      watch.follow(ref)
      cancel()
      await Promise.race([watch.ended(), delay(letGoMs, undefined, { ref: false })])
    },
  }
}

/** BuildKit lets go within milliseconds, unless a step takes its time to be killed. */
const letGoMs = 3_000

/** Control.Solve.internal = 11, true: no entry in the build history. */
const internal = Buffer.from([(11 << 3) | 0, 1])

/**
 * Result: ref = 3 { id = 1 }, refs = 4 { refs = 1 (map) }, metadata = 10 (map). BuildKit takes several
 * references only with a platform for each (exporter/verifier/platforms.go); a cache has none, so any will do.
 */
function encodeResult(ids: readonly string[]): Uint8Array {
  const [only] = ids
  if (ids.length === 1 && only !== undefined) return encodeField(3, encodeField(1, only))
  const entries = ids.map((id, index) => encodeMapEntry(1, String(index), encodeField(1, id)))
  const platforms = ids.map((_id, index) => ({
    ID: String(index),
    Platform: { os: 'linux', architecture: 'amd64' },
  }))
  return Buffer.concat([
    encodeField(4, Buffer.concat(entries)),
    encodeMapEntry(10, 'refs.platforms', JSON.stringify({ Platforms: platforms })),
  ])
}

/** The message of a unary reply. */
export function messageOf(reply: Reply): Buffer {
  return reply.body.subarray(frameMessage(Buffer.alloc(0)).length)
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
