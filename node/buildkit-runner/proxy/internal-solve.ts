/**
 * Internal solves of a client: nobody's build, without a report and without a cache. buildx asks questions by
 * them (`--call`, what is behind a URL), most of which run nothing: those wait for no slot, so that a build can be
 * planned while the node is full. What may run a step takes the slot of the build first.
 */
import type { OutgoingHttpHeaders, ServerHttp2Stream } from 'node:http2'
import { HearthError } from '../../../core/errors.ts'
import type { SolveRequest } from '../../../proto/generated/buildkit/control.ts'
import type { Lease } from '../../scheduler/index.ts'
import { sendReply, signalOf } from './pass-through.ts'
import { bridgeSolve, controlSolve } from './paths.ts'
import { isSubrequest } from './solve-edits.ts'
import { metadataOf, type Upstream } from './upstream.ts'

/** Resolves when a call to the bridge of an internal solve may be passed on. */
export type CallGate = (path: string, message: Uint8Array) => Promise<void>

/** Asks about sources, names what was made before, or says that it is over. */
const questions = new Set(
  ['Ping', 'ResolveImageConfig', 'ResolveSourceMeta', 'Inputs', 'Warn', 'Return'].map(
    (method) => bridgeSolve.slice(0, -'Solve'.length) + method,
  ),
)

/**
 * Resolves when the solve has ended.
 * @param options.gates where the client's other calls find what they wait for, by the solve's reference.
 */
export async function serveInternalSolve(
  deps: { upstream: Upstream; lease: () => Promise<Lease> },
  down: ServerHttp2Stream,
  {
    headers,
    message,
    request,
  }: {
    headers: OutgoingHttpHeaders
    message: Buffer
    request: SolveRequest
  },
  options: { gates: Map<string, CallGate> },
): Promise<void> {
  using stack = new DisposableStack()
  const takeSlot = async (): Promise<void> => {
    const lease = await deps.lease()
    // The client may have given the solve up while it waited in the queue.
    if (stack.disposed) throw new HearthError('cancelled', 'the solve has ended')
    stack.use(lease.begin('solve'))
  }
  let slot: Promise<void> | undefined
  const begin = (): Promise<void> => {
    slot ??= takeSlot()
    return slot
  }
  const actsByItself = request.frontend !== '' || (request.definition?.def.length ?? 0) > 0
  options.gates.set(request.ref, async (path, call) => {
    if (actsByItself || mayRun(path, call)) await begin()
  })
  stack.defer(() => options.gates.delete(request.ref))
  if (actsByItself) await begin()
  const call = { headers: metadataOf(headers), signal: signalOf(down) }
  sendReply(down, await deps.upstream.call(controlSolve, message, call))
}

function mayRun(path: string, message: Uint8Array): boolean {
  if (questions.has(path)) return false
  return path !== bridgeSolve || !isSubrequest(message)
}
