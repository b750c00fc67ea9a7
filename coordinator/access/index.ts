/**
 * Who is asking, and what they may do. Tokens speak for people and CI, certificates of the coordinator's own
 * authority for nodes, and the certificates that a build gets carry its scope to the nodes.
 *
 * A token's secret is never kept, only its hash. A trust line is never taken from a request: it comes from
 * the token.
 */
import type { TlsIdentity } from '../../core/grpc-server.ts'
import type { Identity } from '../../core/identity.ts'
import type { Scope } from '../../core/scope.ts'

export interface Authority {
  /** What everybody else needs to verify what was issued here. */
  readonly caPem: string
  /**
   * A certificate for a key that its owner made.
   * @param publicKey DER SubjectPublicKeyInfo of a P-256 key.
   * @throws HearthError `invalid-input` when it is another kind of key.
   */
  issue(
    identity: Exclude<Identity, { type: 'coordinator' }>,
    publicKey: Uint8Array,
    lifetimeMs: number,
  ): Promise<IssuedCertificate>
  /** A new key and certificate for the coordinator itself. */
  issueOwn(): Promise<TlsIdentity & { expiresAtMs: number }>
}

export interface IssuedCertificate {
  readonly certificatePem: string
  readonly expiresAtMs: number
}

/** Whoever showed a token. */
export type Caller =
  | { readonly type: 'operator'; readonly tokenId: string }
  | { readonly type: 'project'; readonly tokenId: string; readonly scope: Scope }

export interface Tokens {
  createOperator(description: string): NewToken
  createProject(scope: Scope, description: string): NewToken
  /** For one new node, once, within `joinTokenMs`. */
  createJoin(): NewToken
  /** @throws HearthError `unauthenticated` */
  verify(token: string): Caller
  /**
   * Uses a join token up. The same key may come again with it, because its first answer may have been lost.
   * @param publicKeyHash of the node that joins.
   * @param chooseNodeId called when the token is used for the first time.
   * @returns the id of the node that the token let in.
   * @throws HearthError `unauthenticated`
   */
  spendJoin(token: string, publicKeyHash: string, chooseNodeId: () => string): string
  /** @throws HearthError `not-found` */
  revoke(id: string): void
  /** Forgets join tokens that have expired. */
  prune(): void
}

export interface NewToken {
  readonly id: string
  /** `hth_ID_SECRET`: shown once. */
  readonly token: string
}

export { openAuthority } from './authority.ts'
export {
  requireCaller,
  requireNode,
  requireOperator,
  requireProject,
  scopeOf,
  visibleProject,
} from './caller.ts'
export { readOperatorToken } from './operator-token.ts'
export { hashPublicKey } from './public-key.ts'
export { createTokens } from './tokens.ts'
