/**
 * Grants: who holds a capability may use the repository below it until the grant ends.
 *
 *   live ──── lifetime over, disposed, or the registry closes ───▶ ended
 *
 * An ended grant is found by nobody. Its uploads are thrown away at once, because nothing will ever name
 * them again; reads that have begun may finish, because their file cannot change under them.
 */
import { createHash, randomBytes } from 'node:crypto'
import type { Digest } from '../../../core/digest.ts'
import { HearthError } from '../../../core/errors.ts'
import type { Scope } from '../../../core/scope.ts'
import type { CacheStore } from '../../cache-store/index.ts'
import { createGrantPins, type GrantPins } from './grant-pins.ts'
import type { Grant, GrantDocument, GrantRequest, PromisedBlobs } from './index.ts'
import { promisesOf } from './promises.ts'

/** 160 bits; as hex it is a legal path component that no client takes for an image id (64 digits). */
const capabilityBytes = 20

/** Grants live as long as a build, so this many at once is a leak and no load. */
const grantsMax = 10_000

/** Enough to say what is missing; whether there is any is what decides. */
const undeliverableMax = 1000

/** The longest wait that a timer of Node can hold. */
const timerMsMax = 2 ** 31 - 1

export class LiveGrant implements Grant {
  readonly capability: string
  readonly scope: Scope
  readonly right: 'read' | 'write'
  readonly tags: 'of the grant' | 'of the scope'
  readonly documents: ReadonlyMap<Digest, GrantDocument>
  readonly documentTags: ReadonlyMap<string, GrantDocument>
  readonly promised: PromisedBlobs
  readonly undeliverable = new Set<Digest>()
  readonly pushed = new Map<string, { digest: Digest; mediaType: string }>()
  /** What a writer was told to be here stays until the grant ends, else the manifest it pushes would lie. */
  readonly pin: GrantPins
  bytesRead = 0
  bytesUploaded = 0
  bytesLinked = 0
  readonly bytesBrought = new Map<string, number>()
  trouble: unknown
  readonly #brought = new Set<Digest>()
  readonly #end = new AbortController()
  readonly #timer: NodeJS.Timeout
  readonly #expiresAtMs: number

  constructor(store: CacheStore, request: GrantRequest) {
    const documents = request.documents ?? []
    this.capability = randomBytes(capabilityBytes).toString('hex')
    this.scope = request.scope
    this.right = request.right
    this.tags = request.tags ?? 'of the grant'
    this.documents = new Map(documents.map((document) => [document.digest, document]))
    this.documentTags = new Map(
      documents.flatMap((each) => (each.tag === undefined ? [] : [[each.tag, each]])),
    )
    const isReader = request.right === 'read'
    this.promised = request.promised ?? (isReader ? promisesOf(documents) : () => undefined)
    this.pin = createGrantPins(store, request.scope)
    this.#expiresAtMs = performance.now() + request.lifetimeMs
    // The timer only tidies up: `live` looks at the time itself.
    this.#timer = setTimeout(() => this.end(), Math.min(request.lifetimeMs, timerMsMax)).unref()
  }

  /** Aborted when the grant has ended. */
  get ended(): AbortSignal {
    return this.#end.signal
  }

  get live(): boolean {
    return !this.ended.aborted && performance.now() < this.#expiresAtMs
  }

  /** Only the reader of a record depends on what is listed; a writer asks for what may well be absent. */
  couldNotDeliver(digest: Digest): void {
    if (this.right === 'write' || this.undeliverable.size >= undeliverableMax) return
    this.undeliverable.add(digest)
  }

  /** Several requests for one blob may wait for the same fetch: it counts once. */
  noteBrought(digest: Digest, bytesBySource: ReadonlyMap<string, number>): void {
    if (this.#brought.has(digest)) return
    this.#brought.add(digest)
    for (const [source, bytes] of bytesBySource) {
      this.bytesBrought.set(source, (this.bytesBrought.get(source) ?? 0) + bytes)
    }
  }

  end(): void {
    if (this.ended.aborted) return
    clearTimeout(this.#timer)
    this.pin[Symbol.dispose]()
    this.#end.abort()
  }

  [Symbol.dispose](): void {
    this.end()
  }
}

export interface GrantTable extends Disposable {
  issue(request: GrantRequest): LiveGrant
  /** Undefined for what was never issued, has expired or has ended. */
  find(capability: string): LiveGrant | undefined
}

export function createGrantTable(deps: { store: CacheStore }): GrantTable {
  // Found by the hash of the capability: how long a look-up takes says nothing about a capability that the
  // asker has to guess, since nobody can steer a hash towards one.
  const grants = new Map<string, LiveGrant>()

  return {
    issue(request) {
      if (grants.size >= grantsMax) {
        throw new HearthError('exhausted', `${grants.size} grants of the registry are in use`)
      }
      const grant = new LiveGrant(deps.store, request)
      const key = hashOf(grant.capability)
      grants.set(key, grant)
      grant.ended.addEventListener('abort', () => grants.delete(key), { once: true })
      return grant
    },
    find(capability) {
      const grant = grants.get(hashOf(capability))
      return grant?.live ? grant : undefined
    },
    [Symbol.dispose]() {
      for (const grant of [...grants.values()]) grant.end()
    },
  }
}

function hashOf(capability: string): string {
  return createHash('sha256').update(capability).digest('base64')
}
