/** Answers BuildKit's pulls from what is kept, else from the registry: see index.ts for what it promises. */
import { randomBytes } from 'node:crypto'
import { mkdir, rm } from 'node:fs/promises'
import { type Digest, digestOf, isDigest } from '../../../../core/digest.ts'
import { describeError } from '../../../../core/errors.ts'
import { gib, mib } from '../../../../core/limits.ts'
import { deliverBlob } from '../deliver.ts'
import { answer, entityTag } from '../exchange.ts'
import { isTag, parseManifest, plainType } from '../manifest-document.ts'
import type { KeptManifest, Shelf } from '../manifest-table.ts'
import {
  blobUnknown,
  manifestUnknown,
  methodUnsupported,
  nameUnknown,
  refuse,
} from '../oci-errors.ts'
import { matchesTag } from '../ranges.ts'
import { createFetches } from './fetches.ts'
import {
  defaultUpstreams,
  type Mirror,
  type MirrorDeps,
  type MirrorOptions,
  type MirrorRequest,
  mirrorScope,
} from './index.ts'
import { createUpstreamClient, readAll, type UpstreamRequest } from './upstream-client.ts'
import { parseUpstream, type Upstream } from './upstreams.ts'

/** As many as a registry must take (distribution spec, "Pushing Manifests"). */
const manifestBytesMax = 4 * mib

/** What BuildKit asks for when it resolves a name; the order is a preference. */
const manifestTypes = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
]

/** A tag at its registry, as it is now. */
interface Resolved {
  readonly digest: Digest
  readonly mediaType: string
  readonly size: number
}

/** A repository of a registry. */
interface Place {
  readonly upstream: Upstream
  readonly name: string
  readonly shelf: Shelf
}

/**
 * @throws HearthError `invalid-input` when an upstream is no registry's host.
 */
export async function createMirror(deps: MirrorDeps, options: MirrorOptions): Promise<Mirror> {
  const { store, manifests, log } = deps
  const upstreams = (options.upstreams ?? defaultUpstreams).map(parseUpstream)
  const bySlug = new Map(upstreams.map((upstream) => [upstream.slug, upstream]))
  const capability = randomBytes(20).toString('hex')
  // What a killed process was fetching.
  await rm(options.folder, { recursive: true, force: true })
  await mkdir(options.folder, { recursive: true, mode: 0o700 })
  const client = createUpstreamClient(
    { log },
    { answerMs: options.answerMs ?? 10_000, stallMs: options.stallMs ?? 30_000 },
  )
  const fetches = createFetches(
    { store, client, log },
    {
      folder: options.folder,
      fetchMs: options.fetchMs ?? 3_600_000,
      blobBytesMax: options.blobBytesMax ?? 20 * gib,
      fetchesMax: options.fetchesMax ?? 64,
      unreadMs: options.unreadMs ?? 10_000,
    },
  )

  /** A repository below the mirror is `<slug>/<name>`. */
  function placeOf(repository: string): Place | undefined {
    const slash = repository.indexOf('/')
    const upstream = bySlug.get(repository.slice(0, slash))
    if (slash === -1 || upstream === undefined) return undefined
    const name = repository.slice(slash + 1)
    return { upstream, name, shelf: { scope: mirrorScope, name: repository } }
  }

  const manifestRequest = (
    { name }: Place,
    method: 'GET' | 'HEAD',
    reference: string,
    signal: AbortSignal,
  ): UpstreamRequest => ({
    method,
    name,
    path: `manifests/${reference}`,
    headers: { accept: manifestTypes.join(', ') },
    signal,
  })

  /** Asks the registry what a tag is now. */
  async function resolve(place: Place, tag: string, signal: AbortSignal) {
    const outcome = await client.ask(place.upstream, manifestRequest(place, 'HEAD', tag, signal))
    if (outcome.type !== 'answer') return undefined
    const { headers } = outcome.response
    outcome.response.resume()
    const digest = headers['docker-content-digest']
    const size = Number(headers['content-length'] ?? Number.NaN)
    if (typeof digest !== 'string' || !isDigest(digest) || !Number.isSafeInteger(size)) {
      // A registry without the header: only the bytes tell.
      return await bringManifest(place, tag, signal)
    }
    return { digest, size, mediaType: plainType(headers['content-type'] ?? '') } satisfies Resolved
  }

  /** Fetches a manifest and keeps it. Undefined when it is not to be had, or not what it should be. */
  async function bringManifest(
    place: Place,
    reference: string,
    signal: AbortSignal,
  ): Promise<KeptManifest | undefined> {
    const outcome = await client.ask(
      place.upstream,
      manifestRequest(place, 'GET', reference, signal),
    )
    if (outcome.type !== 'answer') return undefined
    const bytes = await readAll(outcome.response, manifestBytesMax)
    const document = bytes && parseManifest(bytes)
    if (bytes === undefined || document === undefined) return undefined
    const digest = digestOf(bytes)
    if (isDigest(reference) && reference !== digest) {
      log.warn({ upstream: place.upstream.host, digest: reference }, 'a registry sent other bytes')
      return undefined
    }
    await using writer = await store.createWriter(mirrorScope)
    await writer.write(bytes)
    await writer.commit(digest)
    // Its own word counts: a Content-Type is not part of what the digest names.
    const kept = { digest, mediaType: document.mediaType, size: bytes.length }
    // A table that is full forgets nothing that matters: the bytes are served all the same, this once.
    await manifests.put(place.shelf, kept, [])
    return kept
  }

  async function serveManifest(asked: MirrorRequest, place: Place, reference: string) {
    const { request, response, method, signal } = asked
    // It becomes part of a path at the registry.
    if (!isDigest(reference) && !isTag(reference)) return refuse(response, manifestUnknown)
    const found: Resolved | undefined = isDigest(reference)
      ? (manifests.find(place.shelf, reference) ?? (await bringManifest(place, reference, signal)))
      : await resolve(place, reference, signal)
    if (found === undefined) return refuse(response, manifestUnknown)
    const tag = entityTag(found.digest)
    const head = { etag: tag, 'docker-content-digest': found.digest }
    if (matchesTag(request.headers['if-none-match'], tag)) return answer(response, 304, head)
    const whole = { ...head, 'content-type': found.mediaType, 'content-length': found.size }
    if (method === 'HEAD') return answer(response, 200, whole)
    const kept =
      manifests.find(place.shelf, found.digest) ??
      (await bringManifest(place, found.digest, signal))
    const source = kept && (await store.open(mirrorScope, kept.digest, { signal }))
    if (kept === undefined || source === undefined) return refuse(response, manifestUnknown)
    const bytes = Buffer.concat(await source.toArray())
    response.writeHead(200, {
      ...whole,
      'content-type': kept.mediaType,
      'content-length': bytes.length,
    })
    response.end(bytes)
  }

  async function serveBlob(asked: MirrorRequest, place: Place, text: string) {
    const { response, method, signal } = asked
    if (!isDigest(text)) return refuse(response, blobUnknown)
    const held = store.stat(mirrorScope, text)
    if (held === undefined && method === 'HEAD') return await headBlob(asked, place, text)
    const download =
      held === undefined ? await fetches.follow({ ...place, digest: text }) : undefined
    const size = held?.size ?? download?.size
    if (size === undefined) return refuse(response, blobUnknown)
    const source = {
      size,
      mediaType: 'application/octet-stream',
      open: async (range: { start: number; end: number } | undefined) =>
        download === undefined
          ? await store.open(mirrorScope, text, { ...range, signal })
          : download.read(range, signal),
      onBytes: () => {},
    }
    await deliverBlob(asked, text, source, (error) => {
      log.debug({ digest: text, error: describeError(error) }, 'a mirrored blob broke off')
    })
  }

  /** Who only asks whether it is there does not make us fetch it. */
  async function headBlob({ response, signal }: MirrorRequest, place: Place, digest: Digest) {
    const { upstream, name } = place
    const path = `blobs/${digest}`
    const outcome = await client.ask(upstream, { method: 'HEAD', name, path, signal })
    if (outcome.type !== 'answer') return refuse(response, blobUnknown)
    outcome.response.resume()
    const { 'content-length': length } = outcome.response.headers
    if (length === undefined) return refuse(response, blobUnknown)
    answer(response, 200, {
      etag: entityTag(digest),
      'docker-content-digest': digest,
      'accept-ranges': 'bytes',
      'content-type': 'application/octet-stream',
      'content-length': length,
    })
  }

  async function serve(asked: MirrorRequest): Promise<void> {
    const { request, response, method, route } = asked
    const place = placeOf(route.repository.name)
    // Who has a credential wants what only the registry itself can give.
    if (place === undefined || request.headers.authorization !== undefined) {
      return refuse(response, nameUnknown)
    }
    if (method !== 'GET' && method !== 'HEAD') {
      return refuse(response, methodUnsupported(['GET', 'HEAD']))
    }
    if (route.type === 'manifest') return await serveManifest(asked, place, route.reference)
    if (route.type === 'blob') return await serveBlob(asked, place, route.digest)
    return refuse(response, nameUnknown)
  }

  return {
    capability,
    paths: new Map(upstreams.map(({ host, slug }) => [host, `${capability}/${slug}`])),
    async serve(asked) {
      try {
        await serve(asked)
      } catch (error) {
        // Trouble with the cache is a miss: BuildKit goes to the registry itself.
        if (asked.response.headersSent || asked.signal.aborted) throw error
        log.warn({ error: describeError(error) }, 'the mirror could not serve a request')
        refuse(asked.response, nameUnknown)
      }
    },
    async [Symbol.asyncDispose]() {
      await fetches[Symbol.asyncDispose]()
      client[Symbol.dispose]()
    },
  }
}
