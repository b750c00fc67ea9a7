/**
 * Blobs that BuildKit has already made lie in its content store on the same disk. When BuildKit asks whether
 * it must push one, we take it over by a verified hard link and say no: nothing travels through HTTP.
 */
import type { Digest } from '../../../core/digest.ts'
import { describeError } from '../../../core/errors.ts'
import { type Scope, scopeId } from '../../../core/scope.ts'
import type { LiveGrant } from './grants.ts'
import type { RegistryDeps } from './index.ts'

/** True when a writer need not push this blob: it is here, and pinned until the grant ends. */
export type Holds = (grant: LiveGrant, digest: Digest) => Promise<boolean>

/** @param options.signal ends adoptions when the registry closes. */
export function createHolds(deps: RegistryDeps, options: { signal: AbortSignal }): Holds {
  // BuildKit pushes a layer once per chain that it is part of, all at the same time.
  const running = new Map<string, Promise<number>>()

  /** Bytes linked; 0 when there was nothing to take over. */
  async function adopt(scope: Scope, digest: Digest): Promise<number> {
    const file = deps.contentFile(scope, digest)
    if (file === undefined) return 0
    const log = deps.log.child({ scope: scopeId(scope), digest })
    try {
      const outcome = await deps.store.adopt(scope, digest, file, options)
      if (outcome.type === 'adopted') return outcome.size
      // No such file is the common case: a blob that BuildKit imported but never pulled.
      if (outcome.type === 'refused' && outcome.reason !== 'no such file') {
        log.info({ reason: outcome.reason }, 'a blob of BuildKit is not linked but uploaded')
      }
    } catch (error) {
      log.warn({ error: describeError(error) }, 'a blob of BuildKit is not linked but uploaded')
    }
    return 0
  }

  return async (grant, digest) => {
    if (grant.pin.add([digest]).length > 0) return true
    const key = `${scopeId(grant.scope)} ${digest}`
    const shared = running.get(key)
    if (shared !== undefined) {
      await shared
    } else {
      const adoption = adopt(grant.scope, digest).finally(() => running.delete(key))
      running.set(key, adoption)
      // Added after the wait: several blobs of one grant are taken over at once.
      const bytes = await adoption
      grant.bytesLinked += bytes
    }
    // The grant may have ended meanwhile, and with it the pin: then nothing may be promised.
    return grant.live && grant.pin.add([digest]).length > 0
  }
}
