/** What the narrowing of a client's requests has to know, and how it says no. */
import { HearthError } from '../../../../core/errors.ts'
import type { OwnRegistry } from './own-registry.ts'
import type { Owner } from './owners.ts'

export interface Narrowing {
  readonly owner: Owner
  readonly registry: OwnRegistry
}

/** @throws HearthError `forbidden` when the session is another build's. */
export function requireSession({ owner }: Narrowing, id: string): void {
  if (id === '' || owner.claimSession(id)) return
  throw new HearthError('forbidden', 'the build names a session that is not its own', {
    hint: 'secrets, SSH agents and contexts are for the build that brought them',
  })
}

/** @throws HearthError `forbidden` when the text names the loopback registry. */
export function requireForeign({ registry }: Narrowing, text: string, what: string): void {
  if (!registry.isNamedBy(text)) return
  throw new HearthError('forbidden', `${what} names the node's own cache registry`, {
    hint: `leave it out: Hearth imports and keeps the cache by itself`,
  })
}
