/** Scopes: a project plus a trust line, the boundary of every cache read and write. */
import { HearthError } from './errors.ts'

export interface Scope {
  readonly project: string
  readonly line: string
}

/** `project/line`, the form used as a key, in folder names and in certificates. */
export type ScopeId = `${string}/${string}`

/** The trust line of a project's own members and branches. */
export const mainLine = 'main'

// Also legal as a component of an OCI repository path and of a host name.
const namePattern = /^[a-z0-9](?:[a-z0-9-]{0,37}[a-z0-9])?$/

/** @throws HearthError `invalid-input` */
export function parseName(kind: 'project' | 'trust line', name: string): string {
  if (namePattern.test(name)) return name
  throw new HearthError('invalid-input', `"${name.slice(0, 60)}" is no name for a ${kind}`, {
    hint: 'use 1 to 39 lower-case letters, digits and inner hyphens',
  })
}

/** @throws HearthError `invalid-input` */
export function makeScope(project: string, line: string): Scope {
  return { project: parseName('project', project), line: parseName('trust line', line) }
}

export function scopeId(scope: Scope): ScopeId {
  return `${scope.project}/${scope.line}`
}

/** @throws HearthError `invalid-input` */
export function parseScopeId(text: string): Scope {
  const [project = '', line = '', ...rest] = text.split('/')
  if (rest.length > 0) throw new HearthError('invalid-input', `"${text.slice(0, 100)}" is no scope`)
  return makeScope(project, line)
}

/** The scope of an id that `scopeId` has made: not checked again. */
export function splitScopeId(id: ScopeId): Scope {
  const slash = id.indexOf('/')
  return { project: id.slice(0, slash), line: id.slice(slash + 1) }
}
