/**
 * How much there is, by scope and by project, kept as blobs come and go: reading it never scans the index.
 * The index is the truth; these sums are rebuilt from it at every start.
 */
import type { ScopeId } from '../../core/scope.ts'
import type { StoreUsage } from './index.ts'
import { projectOf } from './index-keys.ts'

export interface Accounts {
  blobAdded(size: number): void
  blobRemoved(size: number): void
  /** @param firstInProject no other line of the scope's project owned the blob. */
  ownerAdded(scope: ScopeId, size: number, firstInProject: boolean): void
  ownerRemoved(scope: ScopeId, size: number, lastInProject: boolean): void
  used(scope: ScopeId, atMs: number): void
  /** Each blob once, however many lines of the project own it. */
  project(project: string): Sum
  projects(): string[]
  scope(scope: ScopeId): Sum
  usage(): StoreUsage
}

export interface Sum {
  readonly blobs: number
  readonly bytes: number
}

interface Count {
  blobs: number
  bytes: number
}

export function createAccounts(): Accounts {
  const total: Count = { blobs: 0, bytes: 0 }
  const projects = new Map<string, Count>()
  const scopes = new Map<ScopeId, Count & { lastUsedAtMs: number }>()

  const projectCount = (name: string) => {
    const count = projects.get(name) ?? emptyCount()
    projects.set(name, count)
    return count
  }
  const scopeCount = (scope: ScopeId) => {
    const count = scopes.get(scope) ?? { ...emptyCount(), lastUsedAtMs: 0 }
    scopes.set(scope, count)
    return count
  }

  return {
    blobAdded: (size) => add(total, size),
    blobRemoved: (size) => subtract(total, size),
    ownerAdded(scope, size, firstInProject) {
      add(scopeCount(scope), size)
      if (firstInProject) add(projectCount(projectOf(scope)), size)
    },
    ownerRemoved(scope, size, lastInProject) {
      const count = scopeCount(scope)
      subtract(count, size)
      if (count.blobs === 0) scopes.delete(scope)
      if (!lastInProject) return
      const project = projectCount(projectOf(scope))
      subtract(project, size)
      if (project.blobs === 0) projects.delete(projectOf(scope))
    },
    used(scope, atMs) {
      const count = scopes.get(scope)
      if (count !== undefined) count.lastUsedAtMs = Math.max(count.lastUsedAtMs, atMs)
    },
    project: (project) => ({ ...(projects.get(project) ?? emptyCount()) }),
    projects: () => [...projects.keys()],
    scope: (scope) => ({ ...(scopes.get(scope) ?? emptyCount()) }),
    usage: () => ({
      ...total,
      scopes: new Map([...scopes].map(([scope, count]) => [scope, { ...count }])),
      projects: new Map([...projects].map(([project, count]) => [project, { ...count }])),
    }),
  }
}

function emptyCount(): Count {
  return { blobs: 0, bytes: 0 }
}

function add(count: Count, size: number): void {
  count.blobs++
  count.bytes += size
}

function subtract(count: Count, size: number): void {
  count.blobs--
  count.bytes -= size
}
