/**
 * Bytes in and out of HTTP messages, with back-pressure in both directions. A peer that stalls is cut off by
 * the server's own timeout on its socket (see registry.ts), which ends the waits in here.
 */
import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Readable } from 'node:stream'

export type SendOutcome =
  | { readonly type: 'sent' }
  | { readonly type: 'client gone' }
  /** The promised length was not reached: the client sees a broken connection, never a short body. */
  | { readonly type: 'source failed'; readonly error: unknown }

/**
 * Sends a body whose length the head has promised.
 * @param options.onBytes called with the size of each piece that was handed to the socket.
 */
export async function sendBody(
  response: ServerResponse,
  source: Readable,
  options: { length: number; onBytes: (count: number) => void },
): Promise<SendOutcome> {
  let sent = 0
  try {
    for await (const chunk of source as AsyncIterable<Buffer>) {
      if (isGone(response)) return { type: 'client gone' }
      sent += chunk.length
      if (sent > options.length) throw new Error(`more than the promised ${options.length} bytes`)
      options.onBytes(chunk.length)
      if (!response.write(chunk)) await drained(response)
    }
    if (isGone(response)) return { type: 'client gone' }
    if (sent < options.length) throw new Error(`only ${sent} of ${options.length} bytes`)
  } catch (error) {
    // Who is gone aborts the source, so the failure of the source is then no news.
    if (isGone(response)) return { type: 'client gone' }
    response.destroy()
    return { type: 'source failed', error }
  }
  response.end()
  return { type: 'sent' }
}

function isGone(response: ServerResponse): boolean {
  return response.destroyed || response.closed
}

/** Resolves when more may be written, or when nobody is left to write to. */
async function drained(response: ServerResponse): Promise<void> {
  if (isGone(response) || !response.writableNeedDrain) return
  const settled = new AbortController()
  try {
    await Promise.race([
      once(response, 'drain', { signal: settled.signal }),
      once(response, 'close', { signal: settled.signal }),
    ])
  } finally {
    settled.abort()
  }
}

/** Aborted when the client of this exchange goes away before it has its answer. */
export function clientGoneSignal(response: ServerResponse): AbortSignal {
  const gone = new AbortController()
  if (isGone(response)) gone.abort()
  response.once('close', () => {
    if (!response.writableFinished) gone.abort()
  })
  return gone.signal
}

/**
 * The pieces of a request's body. Leaving the loop early keeps the connection, so that an answer can still
 * be sent; the server then reads and drops the rest.
 * @throws when the client disconnects, or stalls, before the end of its body.
 */
export function receiveBody(request: IncomingMessage): AsyncIterable<Buffer> {
  return { [Symbol.asyncIterator]: () => request.iterator({ destroyOnReturn: false }) }
}
