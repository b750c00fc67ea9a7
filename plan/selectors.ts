/**
 * Which paths of its inputs an operation looks at, and whether BuildKit compares those paths by their content
 * or the whole input by its own key (solver/llbsolver/ops/file.go and exec.go of BuildKit 0.34.2).
 */
import path from 'node:path'
import {
  type ChownOpt,
  type ExecOp,
  type FileOp,
  MountContentCache,
  MountType,
  type Op,
} from '../proto/generated/buildkit/ops.ts'
import { compareText, hasWildcard, type Selector } from './paths.ts'

export interface InputUse {
  /** Sorted, without those that another covers. */
  readonly selectors: readonly Selector[]
  /** BuildKit recognizes the input by the content of the selected paths. */
  readonly byContent: boolean
}

/** One for each input of the operation. */
export function inputUses(op: Op): InputUse[] {
  if (op.op?.$case === 'file') return fileUses(op.op.value, op.inputs.length)
  if (op.op?.$case === 'exec') return execUses(op.op.value, op.inputs.length)
  return op.inputs.map(() => ({ selectors: [], byContent: false }))
}

function fileUses(file: FileOp, inputs: number): InputUse[] {
  const selectors = Array.from({ length: inputs }, (): Selector[] => [])
  /** Inputs that are written on top of: all of them counts. */
  const bases = new Set<number>()
  for (const { input, secondaryInput, action } of file.actions) {
    bases.add(input)
    if (action === undefined || action.$case === 'rm') continue
    for (const owner of ownerFiles(action.value.owner)) {
      selectors[owner.input]?.push(plain(owner.file, true))
    }
    if (action.$case !== 'copy') continue
    const copy = action.value
    selectors[secondaryInput]?.push({
      path: cleanPath(copy.src),
      wildcard: copy.allowWildcard && hasWildcard(copy.src),
      followLinks: copy.followSymlink,
      include: copy.includePatterns,
      exclude: copy.excludePatterns,
    })
  }
  return selectors.map((some, input) => ({
    selectors: withoutCovered(some),
    byContent: some.length > 0 && !bases.has(input),
  }))
}

function ownerFiles(owner: ChownOpt | undefined): { input: number; file: string }[] {
  const users = [
    { name: owner?.user?.user, file: '/etc/passwd' },
    { name: owner?.group?.user, file: '/etc/group' },
  ]
  return users.flatMap(({ name, file }) =>
    name?.$case === 'byName' ? [{ input: name.value.input, file }] : [],
  )
}

function execUses(exec: ExecOp, inputs: number): InputUse[] {
  const uses = Array.from({ length: inputs }, () => ({
    paths: new Set<string>(),
    byContent: false,
  }))
  for (const mount of exec.mounts) {
    const readsInput = mount.mountType === MountType.BIND || mount.mountType === MountType.CACHE
    const use = readsInput ? uses[mount.input] : undefined
    if (use === undefined) continue
    const selected = cleanPath(mount.selector)
    use.paths.add(selected)
    const safe = mount.output === -1 || mount.readonly || selected === '/'
    const wanted =
      mount.contentCache === MountContentCache.ON ||
      (mount.contentCache === MountContentCache.DEFAULT && mount.dest !== '/')
    use.byContent = safe && wanted
  }
  return uses.map(({ paths, byContent }) => ({
    selectors: paths.has('/')
      ? [plain('/', false)]
      : withoutCovered([...paths].map((selected) => plain(selected, true))),
    byContent,
  }))
}

function plain(selected: string, followLinks: boolean): Selector {
  return { path: selected, wildcard: false, followLinks, include: [], exclude: [] }
}

function withoutCovered(selectors: readonly Selector[]): Selector[] {
  const texts = new Map(selectors.map((selector) => [JSON.stringify(selector), selector]))
  const unique = [...texts.values()]
  const kept = unique.filter(
    (one) =>
      !isPlain(one) ||
      !unique.some(
        (other) =>
          other !== one &&
          isPlain(other) &&
          other.followLinks === one.followLinks &&
          one.path.startsWith(other.path === '/' ? '/' : `${other.path}/`),
      ),
  )
  return kept.sort((a, b) => compareText(a.path, b.path) || compareText(rest(a), rest(b)))
}

function isPlain(selector: Selector): boolean {
  return !selector.wildcard && selector.include.length === 0 && selector.exclude.length === 0
}

function rest({ path: _, ...others }: Selector): string {
  return JSON.stringify(others)
}

function cleanPath(text: string): string {
  const cleaned = path.posix.join('/', text)
  return cleaned.length > 1 && cleaned.endsWith('/') ? cleaned.slice(0, -1) : cleaned
}
