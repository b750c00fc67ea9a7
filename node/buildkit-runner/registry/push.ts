/**
 * Pushing blobs: in one request, in chunks, or not at all because the bytes are here already.
 * https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-blobs
 */
import type { IncomingMessage, OutgoingHttpHeaders } from 'node:http'
import { type Digest, isDigest } from '../../../core/digest.ts'
import { scopeId } from '../../../core/scope.ts'
import type { BlobWriter, CacheStore } from '../../cache-store/index.ts'
import type { Holds } from './adoption.ts'
import { receiveBody } from './bodies.ts'
import { answer, blobPath, type Exchange, repositoryPath } from './exchange.ts'
import type { GrantTable } from './grants.ts'
import { isAnyDigest } from './manifest-document.ts'
import { digestInvalid, onlySha256, type Refusal, refuse, uploadUnknown } from './oci-errors.ts'
import type { Promises } from './promises.ts'
import { parseContentRange } from './ranges.ts'
import { parseRepository } from './routes.ts'
import type { UploadSession, Uploads } from './uploads.ts'

export interface PushDeps {
  store: CacheStore
  holds: Holds
  promises: Promises
  uploads: Uploads
  grants: GrantTable
}

const tooManyUploads: Refusal = {
  status: 429,
  code: 'TOOMANYREQUESTS',
  message: 'too many uploads are open at once: finish or cancel one',
}

const uploadBusy: Refusal = {
  status: 409,
  code: 'BLOB_UPLOAD_INVALID',
  message: 'another request is writing to this upload',
}

/** POST: mounts, takes a whole blob, or opens a session. */
export async function startPush(deps: PushDeps, exchange: Exchange): Promise<void> {
  const { query, response, grant } = exchange
  const algorithm = query.get('digest-algorithm') ?? 'sha256'
  if (algorithm !== 'sha256') return refuse(response, onlySha256)
  const wanted = query.get('mount') ?? query.get('digest') ?? undefined
  if (wanted !== undefined && !isDigest(wanted)) {
    return refuse(response, notSha256(wanted))
  }
  const mayMount = !query.has('mount') || isMountable(deps, exchange)
  if (wanted !== undefined && mayMount && (await isAnywhere(deps, grant, wanted))) {
    return created(exchange, wanted)
  }
  const session = await deps.uploads.start(grant)
  if (session === undefined) return refuse(response, tooManyUploads)
  if (wanted === undefined || query.has('mount')) return progressed(exchange, session, 202)
  // A push in one request has no name to go on by, so nothing of it is kept when it fails.
  await using whole = session
  await finish(exchange, whole, wanted)
}

/** Here, or where the scope's record says: then it is no news, and need not come. */
async function isAnywhere(
  { holds, promises }: PushDeps,
  grant: Exchange['grant'],
  digest: Digest,
): Promise<boolean> {
  return (await holds(grant, digest)) || promises.find(grant, digest) !== undefined
}

/**
 * Only within one scope: a capability for another one lets its holder read there, and what was read may
 * then be pushed here, but it does not make the bytes this scope's own.
 */
function isMountable({ grants }: PushDeps, { query, grant }: Exchange): boolean {
  const from = query.get('from')
  if (from === null) return true
  const source = grants.find(parseRepository(from.split('/'))?.capability ?? '')
  return source !== undefined && scopeId(source.scope) === scopeId(grant.scope)
}

function notSha256(text: string): Refusal {
  if (isAnyDigest(text)) return onlySha256
  return digestInvalid(`"${text.slice(0, 100)}" is not a digest`)
}

/** PATCH, PUT, GET and DELETE on a session. */
export async function continuePush(deps: PushDeps, exchange: Exchange, id: string): Promise<void> {
  const { grant, method, query, response } = exchange
  const session = deps.uploads.find(grant, id)
  if (session === undefined) return refuse(response, uploadUnknown)
  switch (method) {
    case 'GET':
    case 'HEAD':
      return progressed(exchange, session, 204)
    case 'DELETE':
      session.end()
      return answer(response, 204)
    case 'PUT': {
      const digest = query.get('digest')
      if (digest === null) {
        return refuse(response, digestInvalid('an upload ends with ?digest=sha256:…'))
      }
      if (!isDigest(digest)) return refuse(response, notSha256(digest))
      return finish(exchange, session, digest)
    }
    default:
      return append(exchange, session)
  }
}

async function append(exchange: Exchange, session: UploadSession): Promise<void> {
  const refusal = await useSession(exchange, session, (writer) =>
    receiveChunk(exchange, session, writer),
  )
  if (refusal !== undefined) return refuse(exchange.response, refusal)
  progressed(exchange, session, 202)
}

/** Takes the last chunk, if there is one, and names the blob. The session is over unless it was busy. */
async function finish(exchange: Exchange, session: UploadSession, digest: Digest): Promise<void> {
  const { grant, response } = exchange
  const refusal = await useSession(exchange, session, async (writer) => {
    const refused = await receiveChunk(exchange, session, writer)
    if (refused !== undefined) return refused
    try {
      const blob = await writer.commit(digest)
      grant.bytesUploaded += blob.size
    } finally {
      session.end()
    }
    return undefined
  })
  if (refusal !== undefined) return refuse(response, refusal)
  if (grant.live) grant.pin.add([digest])
  created(exchange, digest)
}

async function useSession(
  { grant }: Exchange,
  session: UploadSession,
  action: (writer: BlobWriter) => Promise<Refusal | undefined>,
): Promise<Refusal | undefined> {
  const used = await session
    .use(async (writer) => ({ refusal: await action(writer) }))
    .catch((error: unknown) => {
      grant.trouble ??= error
      throw error
    })
  if (used !== undefined) return used.refusal
  return session.gone.aborted ? uploadUnknown : uploadBusy
}

/**
 * Appends the body of a request. A client that breaks off leaves what arrived; bytes that contradict
 * their own announcement, or that the disk does not take, end the session.
 */
async function receiveChunk(
  exchange: Exchange,
  session: UploadSession,
  writer: BlobWriter,
): Promise<Refusal | undefined> {
  const { request } = exchange
  const header = request.headers['content-range']
  const range = header === undefined ? undefined : parseContentRange(header)
  if (header !== undefined && range === undefined) {
    return { status: 400, code: 'BLOB_UPLOAD_INVALID', message: 'a malformed Content-Range' }
  }
  if (range !== undefined && range.start !== writer.size) return outOfOrder(exchange, session)
  const announced = range === undefined ? undefined : range.end - range.start + 1
  const contentLength = request.headers['content-length']
  if (
    announced !== undefined &&
    contentLength !== undefined &&
    announced !== Number(contentLength)
  ) {
    return sizeInvalid(announced)
  }

  const copied = await copyBody(request, session, writer, announced ?? Number.POSITIVE_INFINITY)
  if (session.gone.aborted) return uploadUnknown
  if (copied.type === 'broken off') throw copied.error
  if (copied.type === 'not written') {
    session.end()
    throw copied.error
  }
  if (announced !== undefined && copied.bytes !== announced) {
    session.end()
    return sizeInvalid(announced)
  }
  return undefined
}

type CopyOutcome =
  /** More than the limit stands for any length above it. */
  | { readonly type: 'copied'; readonly bytes: number }
  | { readonly type: 'broken off'; readonly error: unknown }
  | { readonly type: 'not written'; readonly error: unknown }

async function copyBody(
  request: IncomingMessage,
  session: UploadSession,
  writer: BlobWriter,
  bytesMax: number,
): Promise<CopyOutcome> {
  // Nobody will ask for a session that is over: do not wait for the rest of its bytes.
  const breakOff = () => request.destroy()
  session.gone.addEventListener('abort', breakOff, { once: true })
  let bytes = 0
  try {
    for await (const chunk of receiveBody(request)) {
      bytes += chunk.length
      if (bytes > bytesMax) break
      try {
        await writer.write(chunk)
      } catch (error) {
        return { type: 'not written', error }
      }
    }
    return { type: 'copied', bytes }
  } catch (error) {
    return { type: 'broken off', error }
  } finally {
    session.gone.removeEventListener('abort', breakOff)
  }
}

function sizeInvalid(announced: number): Refusal {
  return {
    status: 400,
    code: 'SIZE_INVALID',
    message: `Content-Range announces ${announced} bytes and the body has another length`,
  }
}

function outOfOrder(exchange: Exchange, session: UploadSession): Refusal {
  return {
    status: 416,
    code: 'BLOB_UPLOAD_INVALID',
    message: `the next chunk must begin at byte ${session.size}`,
    headers: progressOf(exchange, session),
  }
}

function created({ response, repository }: Exchange, digest: Digest): void {
  answer(response, 201, {
    location: blobPath(repository, digest),
    'docker-content-digest': digest,
  })
}

function progressed(exchange: Exchange, session: UploadSession, status: 202 | 204): void {
  answer(exchange.response, status, progressOf(exchange, session))
}

/** Where an upload stands, and where it goes on. */
function progressOf({ repository }: Exchange, session: UploadSession): OutgoingHttpHeaders {
  return {
    location: `${repositoryPath(repository)}/blobs/uploads/${session.id}`,
    range: receivedRange(session.size),
    'docker-upload-uuid': session.id,
  }
}

/** Clients expect `0-0` before the first byte, as Docker's own registry answers. */
function receivedRange(size: number): string {
  return `0-${Math.max(size - 1, 0)}`
}
