/**
 * Watches the progress of one solve through a status stream of its own, so that the report does not
 * depend on what the client asks for.
 */

import { grpcMessageBytesMax } from '../../../core/limits.ts'
import { StatusRequest, StatusResponse } from '../../../proto/generated/buildkit/control.ts'
import { createFrameReader, frameMessage } from '../../../proto/wire.ts'
import { controlStatus } from './paths.ts'
import type { Upstream } from './upstream.ts'

/** What BuildKit has said about one vertex. */
export interface VertexProgress {
  readonly digest: string
  name: string
  startedMs: number | undefined
  completedMs: number | undefined
  /**
   * True when any event said so: a result that an import offers is first cached, and then, while its
   * bytes are pulled, no longer said to be.
   */
  cached: boolean
  /** Started and not completed since. */
  running: boolean
  error: string
  /** It printed that a file system was full. */
  saidNoSpace: boolean
}

/** Its result is there. */
export function isFinished(vertex: VertexProgress): boolean {
  return vertex.completedMs !== undefined && !vertex.running && vertex.error === ''
}

export interface StepWatch {
  /** Watches this reference from now on, and forgets what another one said: a replay begins anew. */
  follow(ref: string): void
  readonly vertices: ReadonlyMap<string, VertexProgress>
  /** Resolves when one of these vertices has started to run, or when the streams have ended. */
  started(digests: ReadonlySet<string>): Promise<void>
  /** Resolves when there is nothing more to come. */
  ended(): Promise<void>
}

export function createStepWatch(upstream: Upstream): StepWatch {
  const vertices = new Map<string, VertexProgress>()
  const waiting = new Set<() => void>()
  let followed: string | undefined
  const wake = (): void => {
    for (const check of waiting) check()
  }
  const until = (condition: () => boolean): Promise<void> =>
    new Promise((resolve) => {
      const check = (): void => {
        if (!condition() && followed !== undefined) return
        waiting.delete(check)
        resolve()
      }
      waiting.add(check)
      check()
    })

  async function read(ref: string): Promise<void> {
    await readStatus(upstream, ref, (response) => {
      if (followed !== ref) return
      for (const vertex of response.vertexes) record(vertices, vertex)
      for (const { vertex, msg } of response.logs) listen(vertices.get(vertex), msg)
      if (response.vertexes.length > 0) wake()
    })
    if (followed !== ref) return
    followed = undefined
    wake()
  }

  return {
    vertices,
    follow(ref) {
      followed = ref
      vertices.clear()
      void read(ref)
    },
    started: (digests) =>
      until(() => [...digests].some((digest) => vertices.get(digest)?.startedMs !== undefined)),
    ended: () => until(() => false),
  }
}

function record(
  vertices: Map<string, VertexProgress>,
  event: StatusResponse['vertexes'][number],
): void {
  let vertex = vertices.get(event.digest)
  if (vertex === undefined) {
    vertex = {
      digest: event.digest,
      name: event.name,
      startedMs: undefined,
      completedMs: undefined,
      cached: false,
      running: false,
      error: '',
      saidNoSpace: false,
    }
    vertices.set(event.digest, vertex)
  }
  if (event.name !== '') vertex.name = event.name
  // A vertex may start more than once (its cache key, then its run): the whole span counts.
  const startedMs = event.started?.getTime()
  vertex.startedMs = minimum(vertex.startedMs, startedMs)
  vertex.completedMs = event.completed?.getTime() ?? vertex.completedMs
  vertex.cached ||= event.cached
  vertex.running = event.started !== undefined && event.completed === undefined
  if (event.error !== '') vertex.error = event.error
}

/** The text of ENOSPC in glibc, musl, busybox, Go and Node; other languages print their own as well. */
function listen(vertex: VertexProgress | undefined, message: Uint8Array): void {
  if (vertex === undefined || vertex.saidNoSpace) return
  vertex.saidNoSpace = /no space left on device|ENOSPC/i.test(
    Buffer.from(message).toString('latin1'),
  )
}

function minimum(left: number | undefined, right: number | undefined): number | undefined {
  if (left === undefined || right === undefined) return left ?? right
  return Math.min(left, right)
}

/** Never rejects: progress that cannot be read leaves the report poorer, not the build. */
function readStatus(
  upstream: Upstream,
  ref: string,
  onResponse: (response: StatusResponse) => void,
): Promise<void> {
  return new Promise((resolve) => {
    let stream: ReturnType<Upstream['open']>
    try {
      stream = upstream.open({
        ':method': 'POST',
        ':path': controlStatus,
        'content-type': 'application/grpc',
        te: 'trailers',
      })
    } catch {
      resolve()
      return
    }
    const read = createFrameReader(grpcMessageBytesMax)
    stream.on('data', (chunk: Buffer) => {
      try {
        for (const frame of read(chunk)) onResponse(StatusResponse.decode(frame.message))
      } catch {
        stream.close()
      }
    })
    stream.on('error', () => {})
    stream.on('close', () => resolve())
    stream.end(frameMessage(StatusRequest.encode({ ref }).finish()))
  })
}
