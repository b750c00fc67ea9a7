import { HearthError } from '../../core/errors.ts'
import { type Caller, visibleProject } from '../access/index.ts'
import type { BuildRecord, State } from '../state/index.ts'

const beginningPattern = /^[a-z0-9-]{1,64}$/

/**
 * A build that the caller may see, by its id or an unambiguous beginning of it.
 * @throws HearthError `not-found`, `invalid-input` when several builds begin so.
 */
export function findBuild(
  deps: { state: State },
  caller: Caller,
  idOrBeginning: string,
): BuildRecord {
  const project = visibleProject(caller, '')
  const known = beginningPattern.test(idOrBeginning)
    ? deps.state.builds.startingWith(idOrBeginning, { project })
    : []
  const [first, second] = known
  if (first === undefined) {
    throw new HearthError('not-found', `there is no build "${idOrBeginning.slice(0, 64)}"`, {
      hint: '"hearth builds" lists those that are kept',
    })
  }
  if (second === undefined || first.id === idOrBeginning) return first
  throw new HearthError('invalid-input', `several builds begin with "${idOrBeginning}"`, {
    hint: `give more of the id, for example ${first.id.slice(0, idOrBeginning.length + 2)}`,
  })
}

/**
 * The build of a request that acts on it: only by its whole id, and only in the caller's own scope.
 * @throws HearthError `not-found`, `forbidden`
 */
export function requireOwnBuild(deps: { state: State }, caller: Caller, id: string): BuildRecord {
  const build = deps.state.builds.get(id)
  const foreign = caller.type === 'project' && build?.project !== caller.scope.project
  if (build === undefined || foreign) {
    throw new HearthError('not-found', `there is no build "${id.slice(0, 64)}"`)
  }
  if (caller.type === 'project' && build.line !== caller.scope.line) {
    throw new HearthError('forbidden', `the build ${id} is of another trust line`)
  }
  return build
}
