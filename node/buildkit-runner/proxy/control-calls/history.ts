/**
 * BuildKit's history of builds, narrowed to the caller's own. A daemon keeps the history of all builds of
 * the scope: their build arguments, logs and results.
 */
import type { OutgoingHttpHeaders, ServerHttp2Stream } from 'node:http2'
import { HearthError } from '../../../../core/errors.ts'
import {
  BuildHistoryEvent,
  BuildHistoryEventType,
  type BuildHistoryRecord,
  BuildHistoryRequest,
  type Descriptor,
  UpdateBuildHistoryRequest,
} from '../../../../proto/generated/buildkit/control.ts'
import type { Upstream } from '../upstream.ts'
import type { Owner } from './owners.ts'
import { forwardReplies } from './reply-stream.ts'

/** Beyond any history; BuildKit sorts by age only where there is a limit. */
const limitMax = 2 ** 31 - 1

/** Control.ListenBuildHistory. */
export async function serveHistory(
  owner: Owner,
  down: ServerHttp2Stream,
  upstream: Upstream,
  request: { headers: OutgoingHttpHeaders; message: Buffer },
): Promise<void> {
  const asked = BuildHistoryRequest.decode(request.message)
  // A reference that is somebody else's is as unknown as one that nobody has.
  const ref = asked.ref === '' || owner.ownsRef(asked.ref) ? asked.ref : 'unknown'
  // The limit counts the caller's own records.
  const limit = asked.limit > 0 ? limitMax : asked.limit
  // Of a field that stands twice the last one counts.
  const narrowed = BuildHistoryRequest.encode(BuildHistoryRequest.fromPartial({ ref, limit }))
  const message = Buffer.concat([request.message, narrowed.finish()])
  let completed = 0
  await forwardReplies(down, upstream, { ...request, message }, (event) => {
    const { type, record } = BuildHistoryEvent.decode(event)
    if (record === undefined || !owner.ownsRef(record.ref)) return undefined
    if (type === BuildHistoryEventType.COMPLETE) completed += 1
    if (asked.limit > 0 && completed > asked.limit) return undefined
    for (const descriptor of contentOf(record)) owner.allowContent(descriptor.digest)
    return event
  })
}

function contentOf(record: BuildHistoryRecord): Descriptor[] {
  const results = [record.result, ...Object.values(record.results)]
  const named = results.flatMap((result) => [
    result?.resultDeprecated,
    ...(result?.attestations ?? []),
    ...Object.values(result?.results ?? {}),
  ])
  return [record.logs, record.trace, record.externalError, ...named].filter(
    (descriptor) => descriptor !== undefined,
  )
}

/**
 * Control.UpdateBuildHistory: a build may finalize or delete its own records. Pinned ones would outlive
 * every cache policy.
 * @throws HearthError `forbidden`, `not-found`
 */
export function checkHistoryUpdate(owner: Owner, message: Buffer): void {
  const update = UpdateBuildHistoryRequest.decode(message)
  if (!owner.ownsRef(update.ref)) {
    throw new HearthError('not-found', 'this build has no such record')
  }
  if (update.delete || update.finalize || !update.pinned) return
  throw new HearthError('forbidden', 'records of builds cannot be pinned here', {
    hint: '`hearth builds` keeps what every build came to',
  })
}
