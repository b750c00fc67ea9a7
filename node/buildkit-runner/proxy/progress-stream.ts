/** Control.Status for the client: BuildKit's progress without our own vertices, across a replay. */

import type { OutgoingHttpHeaders, ServerHttp2Stream } from 'node:http2'
import { grpcMessageBytesMax } from '../../../core/limits.ts'
import { StatusRequest } from '../../../proto/generated/buildkit/control.ts'
import { createFrameReader, frameMessage } from '../../../proto/wire.ts'
import { isOver, readRequest } from './pass-through.ts'
import { createProgressFilter } from './progress-filter.ts'
import type { SolveJob } from './solve-job.ts'
import { headersOf, type Upstream } from './upstream.ts'

export async function serveProgress(
  down: ServerHttp2Stream,
  headers: OutgoingHttpHeaders,
  upstream: Upstream,
  options: {
    /** Rejects when the client may not watch this solve. */
    admit: (ref: string) => Promise<void>
    jobOf: (ref: string) => SolveJob | undefined
    isOurs: (vertexName: string) => boolean
  },
): Promise<void> {
  const { message } = await readRequest(down)
  const { ref } = StatusRequest.decode(message)
  await options.admit(ref)
  if (isOver(down)) return
  const filter = createProgressFilter(options.isOurs)
  let trailers: OutgoingHttpHeaders = {}
  down.on('wantTrailers', () => {
    if (!down.destroyed) down.sendTrailers(trailers)
  })
  let current = options.jobOf(ref)?.upstreamRef ?? ref
  for (;;) {
    trailers = await forward(current)
    const job = options.jobOf(ref)
    if (job === undefined || down.destroyed) break
    await job.changed(current)
    if (job.upstreamRef === current) break
    current = job.upstreamRef
  }
  if (down.destroyed) return
  if (down.headersSent) down.end()
  else
    down.respond(
      { ':status': 200, 'content-type': 'application/grpc', ...trailers },
      { endStream: true },
    )

  /** Resolves with the trailers when BuildKit has said all about this reference. */
  async function forward(upstreamRef: string): Promise<OutgoingHttpHeaders> {
    const up = upstream.open(headers)
    const cancel = (): void => up.close()
    down.once('close', cancel)
    let ended: OutgoingHttpHeaders = {}
    up.on('response', (_headers, _flags, raw) => {
      ended = headersOf(raw)
      if (ended['grpc-status'] === undefined && !down.headersSent && !down.destroyed) {
        down.respond(ended, { waitForTrailers: true })
      }
    })
    up.on('trailers', (_trailers, _flags, raw) => {
      ended = headersOf(raw ?? [])
    })
    up.on('error', () => {}) // The loop below ends.
    up.end(frameMessage(StatusRequest.encode({ ref: upstreamRef }).finish()))
    const read = createFrameReader(grpcMessageBytesMax)
    try {
      for await (const chunk of up) {
        for (const frame of read(chunk as Buffer)) {
          const kept = filter(frame)
          if (kept === undefined || down.destroyed) continue
          if (!down.write(kept)) await writable(down)
        }
      }
    } catch {
      // A broken stream ends the progress, not the build.
    }
    down.off('close', cancel)
    // Whatever ended the progress, the build's own answer says it, and clients take the first error they get.
    ended['grpc-status'] ??= '0'
    return Object.fromEntries(Object.entries(ended).filter(([name]) => !name.startsWith(':')))
  }
}

/** Resolves when the client has taken what was written, or is gone. */
function writable(down: ServerHttp2Stream): Promise<void> {
  return new Promise((resolve) => {
    const goOn = (): void => {
      down.off('drain', goOn)
      down.off('close', goOn)
      resolve()
    }
    down.on('drain', goOn)
    down.on('close', goOn)
  })
}
