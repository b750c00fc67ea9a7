/** What callers may do. Each function returns what it checked, or throws. */
import type { Metadata } from '@grpc/grpc-js'
import { HearthError } from '../../core/errors.ts'
import type { Identity } from '../../core/identity.ts'
import { mainLine, makeScope, type Scope } from '../../core/scope.ts'
import type { Caller, Tokens } from './index.ts'

/** @throws HearthError `unauthenticated` */
export function requireCaller(tokens: Tokens, metadata: Metadata): Caller {
  const [sent] = metadata.get('authorization')
  const token = typeof sent === 'string' ? /^Bearer (\S+)$/i.exec(sent)?.[1] : undefined
  if (token === undefined) {
    throw new HearthError('unauthenticated', 'no token was sent', {
      hint: 'set HEARTH_TOKEN, or log in with "hearth login"',
    })
  }
  return tokens.verify(token)
}

/** @throws HearthError `forbidden` */
export function requireOperator(caller: Caller): void {
  if (caller.type === 'operator') return
  throw new HearthError(
    'forbidden',
    `a token of the project "${caller.scope.project}" may not do this`,
    {
      hint: "use an operator's token",
    },
  )
}

/**
 * The scope that the caller builds in. An operator builds in any project's main line.
 * @param project as requested; a project's token may leave it out.
 * @throws HearthError `forbidden`, `invalid-input`
 */
export function scopeOf(caller: Caller, project: string): Scope {
  if (caller.type === 'operator') {
    if (project !== '') return makeScope(project, mainLine)
    throw new HearthError('invalid-input', 'the request names no project')
  }
  requireProject(caller, project)
  return caller.scope
}

/** @throws HearthError `forbidden` */
export function requireProject(caller: Caller, project: string): void {
  if (caller.type === 'operator' || project === '' || project === caller.scope.project) return
  throw new HearthError(
    'forbidden',
    `the token is for the project "${caller.scope.project}", not for "${project.slice(0, 60)}"`,
    { hint: 'use a token of that project' },
  )
}

/**
 * The one project whose things the caller sees, or undefined for all.
 * @param project as requested; empty for all that the caller may see.
 * @throws HearthError `forbidden`
 */
export function visibleProject(caller: Caller, project: string): string | undefined {
  requireProject(caller, project)
  if (caller.type === 'project') return caller.scope.project
  return project === '' ? undefined : project
}

/** @throws HearthError `unauthenticated` when there is no node's certificate, `forbidden` when another's. */
export function requireNode(identity: Identity | undefined, nodeId: string): string {
  if (identity?.type !== 'node') {
    throw new HearthError('unauthenticated', 'only a node may do this, with its certificate', {
      hint: 'a node that lost its certificate, or was away too long, needs a new join token',
    })
  }
  if (identity.nodeId === nodeId) return nodeId
  throw new HearthError('forbidden', `the certificate is of node ${identity.nodeId}`)
}
