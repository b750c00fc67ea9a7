/** For tests: a registry over a real store in a folder of its own, and a client that says what it sends. */
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { type IncomingHttpHeaders, type OutgoingHttpHeaders, request as send } from 'node:http'
import os from 'node:os'
import path from 'node:path'
import { type Digest, digestOf } from '../../../core/digest.ts'
import { type Logger, silentLogger } from '../../../core/log.ts'
import { makeScope, type Scope } from '../../../core/scope.ts'
import { type CacheStore, openCacheStore } from '../../cache-store/index.ts'
import {
  createRegistry,
  type Grant,
  type GrantRequest,
  openManifestTable,
  type Registry,
  type RegistryDeps,
  type RegistryOptions,
} from './index.ts'

export const scope = makeScope('app', 'main')
export const otherScope = makeScope('app', 'fork')

const hour = 3_600_000

export interface Fixture extends AsyncDisposable {
  readonly folder: string
  readonly store: CacheStore
  readonly registry: Registry
  reader(documents?: GrantRequest['documents']): Grant
  writer(of?: Scope, promised?: GrantRequest['promised']): Grant
  /** A writer whose tags and manifests are the scope's. */
  keeper(of?: Scope): Grant
  /** Puts bytes into the store, past the registry. */
  put(bytes: Uint8Array, of?: Scope): Promise<Digest>
  call(method: string, target: string, options?: CallOptions): Promise<Answer>
}

export interface CallOptions {
  headers?: OutgoingHttpHeaders
  body?: Uint8Array | string
}

export interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: Buffer
  /** The code of the first error in an error body. */
  readonly code: string | undefined
}

export async function openFixture(
  options: RegistryOptions & {
    contentFile?: RegistryDeps['contentFile']
    sources?: (store: CacheStore) => RegistryDeps['sources']
    log?: Logger
  } = {},
): Promise<Fixture> {
  const { contentFile = () => undefined, log = silentLogger, ...rest } = options
  const { sources: makeSources, ...registryOptions } = rest
  await using stack = new AsyncDisposableStack()
  const folder = await mkdtemp(path.join(os.tmpdir(), 'hearth-registry-'))
  stack.defer(() => rm(folder, { recursive: true, force: true }))
  const store = stack.use(await openCacheStore({ folder: path.join(folder, 'store'), log }))
  const manifests = stack.use(
    await openManifestTable({ store, log }, { folder: path.join(folder, 'manifests') }),
  )
  const sources = makeSources?.(store)
  const registry = stack.use(
    await createRegistry(
      { store, log, contentFile, manifests, ...(sources === undefined ? {} : { sources }) },
      registryOptions,
    ),
  )
  const held = stack.move()

  return {
    folder,
    store,
    registry,
    reader: (documents) =>
      registry.grant({
        scope,
        right: 'read',
        lifetimeMs: hour,
        ...(documents === undefined ? {} : { documents }),
      }),
    writer: (of = scope, promised) =>
      registry.grant({
        scope: of,
        right: 'write',
        lifetimeMs: hour,
        ...(promised === undefined ? {} : { promised }),
      }),
    keeper: (of = scope) =>
      registry.grant({ scope: of, right: 'write', tags: 'of the scope', lifetimeMs: hour }),
    async put(bytes, of = scope) {
      await using writer = await store.createWriter(of)
      await writer.write(bytes)
      return (await writer.commit(digestOf(bytes))).digest
    },
    call: (method, target, callOptions) => call(registry.port, method, target, callOptions),
    [Symbol.asyncDispose]: () => held.disposeAsync(),
  }
}

export function call(
  port: number,
  method: string,
  target: string,
  { headers = {}, body }: CallOptions = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = send({ host: '127.0.0.1', port, method, path: target, headers })
    request.on('error', reject)
    request.on('response', (response) => {
      response
        .toArray()
        .then((chunks: Buffer[]) => {
          const bytes = Buffer.concat(chunks)
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: bytes,
            code: errorCodeOf(bytes),
          })
        })
        .catch(reject)
    })
    request.end(body)
  })
}

function errorCodeOf(body: Buffer): string | undefined {
  try {
    return (JSON.parse(body.toString()) as { errors: [{ code: string }] }).errors[0].code
  } catch {
    return undefined
  }
}

/** Path of a repository of this grant. */
export function repository(grant: Grant, name = 'cache'): string {
  return `/v2/${grant.capability}/${name}`
}

/** Bytes that do not compress and are never the same twice. */
export function freshBytes(count: number): { bytes: Buffer; digest: Digest } {
  const bytes = randomBytes(count)
  return { bytes, digest: digestOf(bytes) }
}
