/** Reasons other than a full node for which builds of a scope, or of all, get no lease. */
import type { HearthError } from '../../core/errors.ts'
import { type Scope, scopeId } from '../../core/scope.ts'
import type { Hold } from './index.ts'

export interface Holds {
  add(scope: Scope | undefined, reason: string): Hold
  /** Why builds of this scope wait: that of its oldest hold, or nothing. */
  reason(scope: Scope): string
  /** What builds of this scope are refused with, if they are. */
  refusal(scope: Scope): HearthError | undefined
}

interface Entry {
  readonly scope: Scope | undefined
  readonly reason: string
  error: (() => HearthError) | undefined
}

/** @param deps.onChange called when a hold was added or ended, or begins to refuse. */
export function createHolds(deps: { onChange: () => void }): Holds {
  const entries = new Set<Entry>()
  const covering = (scope: Scope): Entry[] =>
    [...entries].filter(
      (entry) => entry.scope === undefined || scopeId(entry.scope) === scopeId(scope),
    )
  return {
    add(scope, reason) {
      const entry: Entry = { scope, reason, error: undefined }
      entries.add(entry)
      deps.onChange()
      return {
        refuse(error) {
          entry.error = error
          deps.onChange()
        },
        [Symbol.dispose]() {
          if (entries.delete(entry)) deps.onChange()
        },
      }
    },
    reason: (scope) => covering(scope)[0]?.reason ?? '',
    refusal: (scope) =>
      covering(scope)
        .find(({ error }) => error !== undefined)
        ?.error?.(),
  }
}
