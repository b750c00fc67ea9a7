/**
 * Who a certificate of Hearth's own authority speaks for, written as one URI in its subject alternative
 * names. The coordinator writes them, nodes and the coordinator read them.
 */
import { HearthError } from './errors.ts'
import { makeScope, type Scope } from './scope.ts'

export type Identity =
  | { readonly type: 'coordinator' }
  | { readonly type: 'node'; readonly nodeId: string }
  /** A client of one scope. Without a build it is a standby certificate: it must queue for its slot itself. */
  | { readonly type: 'client'; readonly scope: Scope; readonly buildId: string | undefined }

/** Name that every coordinator's certificate carries, whatever address it listens on. */
export const coordinatorServerName = 'coordinator.hearth.internal'

/** Name that a node's certificate carries. */
export function nodeServerName(nodeId: string): string {
  return `${nodeId}.node.hearth.internal`
}

/** For example `hearth://client/app/main/b7k2…`. */
export function formatIdentity(identity: Identity): string {
  switch (identity.type) {
    case 'coordinator':
      return 'hearth://coordinator'
    case 'node':
      return `hearth://node/${identity.nodeId}`
    case 'client': {
      const build = identity.buildId === undefined ? '' : `/${identity.buildId}`
      return `hearth://client/${identity.scope.project}/${identity.scope.line}${build}`
    }
  }
}

/** @throws HearthError `unauthenticated` */
export function parseIdentity(uri: string): Identity {
  const [type, ...rest] = uri.startsWith('hearth://')
    ? uri.slice('hearth://'.length).split('/')
    : []
  const [first, second, third] = rest
  if (type === 'coordinator' && rest.length === 0) return { type }
  if (type === 'node' && first !== undefined && rest.length === 1) return { type, nodeId: first }
  if (type === 'client' && first !== undefined && second !== undefined && rest.length <= 3) {
    return { type, scope: makeScope(first, second), buildId: third }
  }
  throw new HearthError('unauthenticated', 'the certificate names no Hearth identity')
}

/**
 * Reads the identity from Node's `subjectaltname` text of a verified peer certificate, for example
 * `DNS:x.node.hearth.internal, URI:hearth://node/x`.
 * @throws HearthError `unauthenticated`
 */
export function identityOfCertificate(subjectAltName: string | undefined): Identity {
  const uri = subjectAltName?.split(', ').find((name) => name.startsWith('URI:hearth://'))
  if (uri === undefined) {
    throw new HearthError('unauthenticated', 'the certificate names no Hearth identity')
  }
  return parseIdentity(uri.slice('URI:'.length))
}
