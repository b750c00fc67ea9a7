/**
 * The sources that work on one download. It begins with the best and adds the next while there is work for it
 * and the sum of all still grows; one without a byte for a while gets company on its piece, and is given up when
 * it stays silent.
 */
import type { GrowingFile } from './growing-file.ts'
import type { BlobSource, Road, SourceFault, TransferLimits } from './index.ts'
import type { Wait } from './patience.ts'
import type { Piece, PiecePlan } from './piece-plan.ts'
import { type SourceConnection, SourceFailure, toSourceFailure } from './source-connection.ts'

export interface CrewDeps {
  plan: PiecePlan
  growing: GrowingFile
  /** @throws SourceFailure */
  connect(source: BlobSource, options: { signal: AbortSignal }): Promise<SourceConnection>
}

export interface CrewResult {
  readonly faults: readonly SourceFault[]
  /** Bytes received, by source. */
  readonly bytesBySource: ReadonlyMap<string, number>
  /** Of each source that sent something. */
  readonly roads: ReadonlyMap<string, Road>
  readonly waits: readonly Wait[]
}

/** How often progress is looked at. */
const lookEveryMs = 50
/** Fewer bytes than these are no progress: who drips is as silent as who says nothing. */
const progressBytesMin = 16 * 1024
/** Looks after which the effect of one more source is judged. */
const looksPerSource = 3
/** A further source is worth its connection when it makes the sum this much faster. */
const growthMin = 1.1

export function sourceName(source: BlobSource): string {
  return source.type === 'node' ? source.nodeId : source.name
}

interface Member {
  readonly source: BlobSource
  readonly stop: AbortController
  connection: SourceConnection | undefined
  /** Of the connection, when it last made progress. */
  bytesSeen: number
  /** When it last made progress, or the work on its piece began. */
  movedAtMs: number
  /** Since its piece was asked for, or for the first one since it was hired; until the first byte. */
  waiting: { sinceMs: number; bytesBefore: number } | undefined
  piece: Piece | undefined
  done: Promise<void>
}

/**
 * Resolves when all pieces are there or no source is left.
 * @throws what writing the file threw, or the signal's reason.
 */
export async function workTogether(
  deps: CrewDeps,
  request: {
    sources: readonly BlobSource[]
    limits: TransferLimits
    /** By source, where more is known than the limit that was set. */
    hedgeMs: ReadonlyMap<string, number>
    signal: AbortSignal
  },
): Promise<CrewResult> {
  const { plan, growing } = deps
  const { limits, signal } = request
  const idle = [...request.sources]
  const members = new Set<Member>()
  const faults: SourceFault[] = []
  const received = new Map<string, number>()
  const roads = new Map<string, Road>()
  const waits: Wait[] = []
  const over = Promise.withResolvers<void>()
  const pace = createGrowthJudge()

  function hire(): void {
    const source = idle.shift()
    if (source === undefined) return
    const stop = new AbortController()
    const nowMs = performance.now()
    const member: Member = {
      ...{ source, stop, connection: undefined, piece: undefined },
      ...{ bytesSeen: 0, movedAtMs: nowMs, done: Promise.resolve() },
      waiting: { sinceMs: nowMs, bytesBefore: 0 },
    }
    members.add(member)
    pace.hired()
    member.done = employ(member).then(
      () => left(member),
      (error: unknown) => over.reject(error),
    )
  }

  function left(member: Member): void {
    members.delete(member)
    if (plan.isFinished) over.resolve()
    else if (members.size === 0 || plan.waiting > 0) {
      if (idle.length > 0) hire()
      else if (members.size === 0) over.resolve()
    }
  }

  /** Works until nothing is left to do, or the source fails. @throws what writing throws */
  async function employ(member: Member): Promise<void> {
    const { source, stop } = member
    const signalOfBoth = AbortSignal.any([signal, stop.signal])
    try {
      using connection = await deps.connect(source, { signal: signalOfBoth })
      member.connection = connection
      const hangUp = (): void => connection[Symbol.dispose]()
      signalOfBoth.addEventListener('abort', hangUp, { once: true })
      signalOfBoth.throwIfAborted()
      const name = sourceName(source)
      roads.set(name, connection.road)
      for (;;) {
        member.piece = plan.take(name) ?? plan.takeAgain(name)
        if (member.piece === undefined) break
        member.movedAtMs = performance.now()
        member.waiting ??= {
          sinceMs: member.movedAtMs,
          bytesBefore: connection.bytesReceived,
        }
        await bring(name, member.piece, connection)
        noteWait(member)
        dismissOthers(member, member.piece)
        await growing.hashUpTo(plan.frontier)
      }
      idle.push(source)
    } catch (error) {
      if (member.piece !== undefined) plan.giveUp(member.piece, sourceName(source))
      if (error instanceof WriteFailure) throw error.cause
      if (signal.aborted) return
      const isDismissed = stop.signal.reason === notNeeded
      const failure = isDismissed ? slownessOf(member) : (stop.signal.reason ?? error)
      noteWait(member, isDismissed ? 1 : 2)
      if (isDismissed) idle.push(source)
      if (failure === undefined || (plan.isFinished && !isDismissed)) return
      const { reason, message } = toSourceFailure(failure, 'broken off')
      faults.push({ source: sourceName(source), reason, message })
    }
  }

  /** Of one that is no longer needed: whether that is because it said nothing. */
  function slownessOf(member: Member): SourceFailure | undefined {
    const nowMs = performance.now()
    if (!isSilent(member, nowMs)) return undefined
    const silentMs = Math.round(nowMs - member.movedAtMs)
    return new SourceFailure('slow', `no byte for ${silentMs} ms, and another was quicker`)
  }

  async function bring(name: string, piece: Piece, connection: SourceConnection): Promise<void> {
    await connection.read(piece, async (buffer, bytes, position) => {
      received.set(name, (received.get(name) ?? 0) + bytes)
      await growing.put(piece, { source: name, buffer, bytes, position }).catch((error) => {
        throw new WriteFailure(error)
      })
    })
    plan.finish(piece)
  }

  function noteWait(member: Member, times = 1): void {
    if (member.waiting === undefined) return
    const ms = (performance.now() - member.waiting.sinceMs) * times
    waits.push({ source: sourceName(member.source), ms })
    member.waiting = undefined
  }

  function isSilent({ source, movedAtMs }: Member, nowMs: number): boolean {
    const hedgeMs = request.hedgeMs.get(sourceName(source)) ?? limits.hedgeMs
    return nowMs - movedAtMs > hedgeMs
  }

  function dismissOthers(member: Member, piece: Piece): void {
    for (const other of members) {
      if (other !== member && other.piece === piece) other.stop.abort(notNeeded)
    }
  }

  function look(): void {
    const nowMs = performance.now()
    for (const member of members) {
      const bytes = member.connection?.bytesReceived ?? 0
      if (bytes > (member.waiting?.bytesBefore ?? bytes)) noteWait(member)
      if (bytes - member.bytesSeen >= progressBytesMin) {
        member.movedAtMs = nowMs
        member.bytesSeen = bytes
      }
      const silentMs = nowMs - member.movedAtMs
      if (silentMs > limits.stallMs) {
        member.stop.abort(new SourceFailure('stalled', `no byte for ${Math.round(silentMs)} ms`))
      }
    }
    const areSilent = [...members].every((member) => isSilent(member, nowMs))
    const sum = [...received.values()].reduce((total, bytes) => total + bytes, 0)
    const mayGrow = pace.look(sum) && plan.waiting > 0
    if (areSilent || mayGrow) hire()
  }

  if (!plan.isFinished) {
    hire()
    const looking = setInterval(look, lookEveryMs)
    const onAbort = (): void => over.reject(signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      await over.promise
    } finally {
      clearInterval(looking)
      signal.removeEventListener('abort', onAbort)
      for (const member of members) member.stop.abort(notNeeded)
      await Promise.all([...members].map(({ done }) => done))
    }
  }
  return { faults, bytesBySource: received, roads, waits }
}

/** Says after each source whether one more would help: only if the last has made the sum faster. */
function createGrowthJudge(): { hired(): void; look(bytes: number): boolean } {
  let looks = 0
  let bytesBefore = 0
  let rateBefore = 0
  let isOver = false
  return {
    hired() {
      looks = 0
    },
    look(bytes) {
      looks += 1
      // The first look still sees the connection being made.
      if (looks === 1) bytesBefore = bytes
      if (isOver || looks <= looksPerSource) return false
      const rate = (bytes - bytesBefore) / (looks - 1)
      isOver = rate < rateBefore * growthMin
      rateBefore = rate
      return !isOver
    },
  }
}

const notNeeded = new SourceFailure('broken off', 'no longer needed')

/** Tells our own disk's failures from the sources'. */
class WriteFailure extends Error {
  constructor(cause: unknown) {
    super('the file cannot be written', { cause })
  }
}
