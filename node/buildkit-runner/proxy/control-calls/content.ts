/**
 * BuildKit's content store, narrowed to reading what the history of the caller's own builds names, and what
 * the manifests among that name in turn. Writing is BuildKit's to refuse, and is refused before.
 */
import type { OutgoingHttpHeaders, ServerHttp2Stream } from 'node:http2'
import { z } from 'zod'
import { HearthError } from '../../../../core/errors.ts'
import { fieldBytes, fieldText } from '../../../../proto/wire.ts'
import type { Upstream } from '../upstream.ts'
import type { Owner } from './owners.ts'
import { forwardReplies } from './reply-stream.ts'

/** Info and Read: digest = 1. @throws HearthError `not-found` */
export function checkContentRead(owner: Owner, message: Buffer): string {
  const digest = fieldText(message, 1)
  if (owner.mayRead(digest)) return digest
  throw new HearthError('not-found', 'the history of this build names no such content', {
    hint: 'ask for the history first',
  })
}

/** What registries take for a manifest. */
const manifestBytesMax = 4 * 1024 * 1024

/** Content.Read: replies of offset = 1, data = 2. */
export async function serveContentRead(
  owner: Owner,
  down: ServerHttp2Stream,
  upstream: Upstream,
  request: { headers: OutgoingHttpHeaders; message: Buffer },
): Promise<void> {
  checkContentRead(owner, request.message)
  let parts: Buffer[] | undefined = []
  let bytes = 0
  await forwardReplies(down, upstream, request, (reply) => {
    for (const data of fieldBytes(reply, 2)) {
      bytes += data.length
      parts?.push(Buffer.from(data))
    }
    if (bytes > manifestBytesMax) parts = undefined
    return reply
  })
  if (parts === undefined) return
  for (const digest of digestsOf(Buffer.concat(parts))) owner.allowContent(digest)
}

const descriptor = z.object({ digest: z.string() })
const manifest = z.object({
  config: descriptor.optional(),
  layers: z.array(descriptor).optional(),
  manifests: z.array(descriptor).optional(),
})

/** What an image manifest or index names; nothing for any other content. */
function digestsOf(content: Buffer): string[] {
  if (content.at(0) !== '{'.charCodeAt(0)) return []
  let found: z.infer<typeof manifest>
  try {
    found = manifest.parse(JSON.parse(content.toString()))
  } catch {
    return []
  }
  const { config, layers = [], manifests = [] } = found
  return [...(config === undefined ? [] : [config]), ...layers, ...manifests].map(
    ({ digest }) => digest,
  )
}
