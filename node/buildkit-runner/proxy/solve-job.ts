/**
 * One solve of a client, from its request to its answer.
 *
 *   opened ──Control.Solve──▶ solving ──answer──▶ answered (see solve-end.ts)
 *                               │ a blob of the record could not be delivered
 *                               ▼
 *                            replaying (once, without import) ──answer──▶ answered
 *
 * The client's own messages are forwarded with the scope's record spliced in, and a shadow build mirrors
 * them.
 */
import { randomUUID } from 'node:crypto'
import type { Logger } from '../../../core/log.ts'
import type { SolveRequest } from '../../../proto/generated/buildkit/control.ts'
import { SolveRequest as BridgeSolveRequest } from '../../../proto/generated/buildkit/gateway.ts'
import { fieldBytes, fieldText } from '../../../proto/wire.ts'
import type { CacheAccess } from './cache-access.ts'
import { bridgeEvaluate, bridgeReturn, bridgeSolve, buildIdHeader, controlSolve } from './paths.ts'
import { messageOf } from './shadow-build.ts'
import type { ShadowMirror } from './shadow-mirror.ts'
import {
  bridgeSolveOf,
  type CacheEntry,
  definitionImportsOf,
  isSubrequest,
  type ResultRef,
  replyRefs,
  returnedRefs,
  withBridgeImport,
  withControlImport,
  withRef,
  withRefIds,
} from './solve-edits.ts'
import type { StepWatch } from './step-watch.ts'
import type { Headers, Reply, Upstream } from './upstream.ts'

export interface SolveJob {
  /** The reference under which BuildKit knows the solve at present: another one after a replay. */
  readonly upstreamRef: string
  readonly replayed: boolean
  /** The shadow that mirrors the solve at present: another one after a replay. */
  readonly mirror: ShadowMirror
  /** Control.Solve: resolves with what the client is to be told. Rejects when the call broke. */
  solve(headers: Headers, signal: AbortSignal): Promise<Reply>
  /** Any unary call of the client to the bridge of this solve. */
  bridge(path: string, message: Buffer, headers: Headers, signal: AbortSignal): Promise<Reply>
  /** Resolves when the answer is decided, or BuildKit knows the solve by another reference than this. */
  changed(knownRef: string): Promise<void>
}

export interface SolveJobDeps {
  /** The client's connection to BuildKit. */
  upstream: Upstream
  cache: CacheAccess
  watch: StepWatch
  makeMirror: () => ShadowMirror
  /** Waits for a slot; called before anything of the solve may run, more than once. */
  begin: () => Promise<void>
  /** The error that stands for one that broke a call. */
  blame: (error: unknown) => Promise<unknown>
  log: Logger
}

/** A bridge solve of the client as a replay needs it. */
interface BridgeSolve {
  readonly message: Buffer
  readonly refs: readonly ResultRef[]
}

/** One try at the solve: the client's own, or its replay. */
interface Attempt {
  readonly ref: string
  readonly mirror: ShadowMirror
  readonly importFrom: CacheEntry | undefined
  /** Result ids that the client holds, as this attempt knows them. */
  readonly ids: Map<string, string>
  readonly solves: BridgeSolve[]
  readonly abandon: AbortController
  reply: Promise<Reply>
  /** What BuildKit said to a result that the replay returned in the client's place. */
  returned: Reply | undefined
}

export function createSolveJob(
  deps: SolveJobDeps,
  message: Buffer,
  request: SolveRequest,
): SolveJob {
  const { upstream, cache, watch, log } = deps
  const drivesBridge = request.frontend === '' && (request.definition?.def.length ?? 0) === 0
  let attempt = makeAttempt(request.ref, cache.importFrom)
  let replay: Promise<void> | undefined
  let returnMessage: Buffer | undefined
  /** The client's own Control.Solve. */
  let own: { headers: Headers; signal: AbortSignal } = {
    headers: {},
    signal: new AbortController().signal,
  }
  let settled = false
  const changes = new EventTarget()
  const announce = (): boolean => changes.dispatchEvent(new Event('change'))

  function makeAttempt(ref: string, importFrom: CacheEntry | undefined): Attempt {
    return {
      ref,
      mirror: deps.makeMirror(),
      importFrom,
      ids: new Map(),
      solves: [],
      abandon: new AbortController(),
      reply: Promise.withResolvers<Reply>().promise,
      returned: undefined,
    }
  }

  /** Sends Control.Solve; what BuildKit would do by itself is mirrored before it begins. */
  async function start(current: Attempt, headers: Headers, signal: AbortSignal): Promise<void> {
    const renamed = current.ref === request.ref ? message : withRef(message, current.ref)
    const entry = drivesBridge ? undefined : current.importFrom
    const edited = entry === undefined ? renamed : withControlImport(renamed, entry)
    let evaluated: string[] = []
    if (!drivesBridge) {
      await deps.begin()
      evaluated = await mirrorWholeSolve(current, edited)
    }
    watch.follow(current.ref)
    current.reply = upstream.call(controlSolve, edited, {
      headers,
      signal: AbortSignal.any([signal, current.abandon.signal]),
    })
    current.reply.catch(() => {}) // Whoever waits for the answer sees it.
    // Not before: a shadow that must come second waits for the progress of this solve.
    current.mirror.evaluating(evaluated)
  }

  /** For clients that drive no bridge, the shadow asks first, so that it holds what the client will run. */
  async function mirrorWholeSolve(current: Attempt, edited: Buffer): Promise<string[]> {
    const asBridge = bridgeSolveOf(edited)
    const imports = definitionImportsOf(asBridge)
    let refs: ResultRef[]
    if (request.frontend === '') {
      refs = [{ id: 'definition', definition: fieldBytes(edited, 2).at(-1) }]
      await current.mirror.loaded(refs, imports)
    } else {
      refs = await current.mirror.loadedByFrontend(asBridge, imports)
    }
    return refs.map((ref) => ref.id)
  }

  /** Sends a bridge call under the reference and the result ids that BuildKit knows at present. */
  function callBridge(path: string, bytes: Buffer, headers: Headers, signal: AbortSignal) {
    return upstream.call(path, withRefIds(bytes, attempt.ids), {
      headers: { ...headers, [buildIdHeader]: attempt.ref },
      signal,
    })
  }

  async function bridgeSolveCall(
    bytes: Buffer,
    headers: Headers,
    signal: AbortSignal,
  ): Promise<Reply> {
    if (isSubrequest(bytes)) return callBridge(bridgeSolve, bytes, headers, signal)
    const { importFrom, mirror, solves } = attempt
    const edited = importFrom === undefined ? bytes : withBridgeImport(bytes, importFrom)
    const reply = await callBridge(bridgeSolve, edited, headers, signal)
    if (reply.status !== 0) return reply
    const refs = replyRefs(messageOf(reply))
    solves.push({ message: bytes, refs })
    await mirror.loaded(refs, definitionImportsOf(edited))
    if (BridgeSolveRequest.decode(bytes).evaluate) mirror.evaluating(refs.map((ref) => ref.id))
    return reply
  }

  function bridgeCall(
    path: string,
    bytes: Buffer,
    headers: Headers,
    signal: AbortSignal,
  ): Promise<Reply> {
    if (path === bridgeSolve) return bridgeSolveCall(bytes, headers, signal)
    if (path === bridgeReturn) return returnCall(bytes, headers, signal)
    if (path === bridgeEvaluate) {
      attempt.mirror.evaluating([attempt.ids.get(fieldText(bytes, 1)) ?? fieldText(bytes, 1)])
    }
    return callBridge(path, bytes, headers, signal)
  }

  function returnCall(bytes: Buffer, headers: Headers, signal: AbortSignal): Promise<Reply> {
    const refs = returnedRefs(withRefIds(bytes, attempt.ids))
    attempt.mirror.evaluating(refs.map((ref) => ref.id))
    return callBridge(bridgeReturn, bytes, headers, signal)
  }

  /**
   * Does again, without import, what the client has done so far: the hit is lost, not the build. The old
   * shadow goes first, because BuildKit would share its failed operations with the new solve.
   */
  async function startReplay(): Promise<void> {
    // The client's own Control.Solve decides how long it goes on, whichever call has failed.
    const { headers, signal } = own
    log.warn(
      { undeliverable: [...cache.undeliverable] },
      'cached blobs could not be delivered: the solve is replayed without import',
    )
    const before = attempt
    before.abandon.abort()
    await Promise.allSettled([before.mirror.cancelled(), before.reply])
    attempt = makeAttempt(randomUUID().replaceAll('-', '').slice(0, request.ref.length), undefined)
    await start(attempt, headers, signal)
    announce()
    for (const solve of before.solves) {
      const again = await bridgeSolveCall(solve.message, headers, signal)
      if (again.status !== 0) return
      for (const [index, ref] of replyRefs(messageOf(again)).entries()) {
        const old = solve.refs[index]
        if (old !== undefined) attempt.ids.set(old.id, ref.id)
      }
    }
    if (returnMessage === undefined) return
    attempt.returned = await returnCall(returnMessage, headers, signal)
  }

  /**
   * Replays when that may help: the call failed, and a blob that the record promised could not be
   * delivered, so whatever failed may have failed by that. Concurrent failures share one replay.
   * @param during the attempt in which the call was made.
   * @returns true when the call belongs to an attempt that is over, and is to be made again.
   */
  async function replayed(during: Attempt, reply: Reply): Promise<boolean> {
    const isDoubtful =
      reply.status !== 0 && during.importFrom !== undefined && cache.undeliverable.size > 0
    if (isDoubtful && during === attempt) {
      replay ??= startReplay()
      replay.catch(() => {}) // Whoever waits for it sees it.
    }
    await replay
    return during !== attempt
  }

  /** The answer of whichever attempt is the last. */
  async function finalReply(signal: AbortSignal): Promise<Reply> {
    for (;;) {
      const current = attempt
      try {
        const reply = await current.reply
        if (signal.aborted || !(await replayed(current, reply))) return reply
      } catch (error) {
        if (!current.abandon.signal.aborted || signal.aborted) throw error
        await replay
      }
    }
  }

  return {
    get upstreamRef() {
      return attempt.ref
    },
    get replayed() {
      return replay !== undefined
    },
    get mirror() {
      return attempt.mirror
    },

    async solve(headers, signal) {
      own = { headers, signal }
      try {
        await start(attempt, headers, signal)
        return await finalReply(signal)
      } catch (error) {
        throw await deps.blame(error)
      } finally {
        settled = true
        announce()
      }
    },

    async bridge(path, bytes, headers, signal) {
      if (path === bridgeReturn) returnMessage = bytes
      if (path === bridgeSolve && !isSubrequest(bytes)) await deps.begin()
      for (;;) {
        // A replay does again what the client had asked for before; what comes meanwhile waits for it.
        await replay
        const during = attempt
        if (path === bridgeReturn && during.returned !== undefined) return during.returned
        const reply = await bridgeCall(path, bytes, headers, signal).catch(async (error) => {
          throw await deps.blame(error)
        })
        if (signal.aborted || !(await replayed(during, reply))) return reply
      }
    },

    changed(knownRef) {
      return new Promise((resolve) => {
        const check = (): void => {
          if (!settled && attempt.ref === knownRef) return
          changes.removeEventListener('change', check)
          resolve()
        }
        changes.addEventListener('change', check)
        check()
      })
    },
  }
}
