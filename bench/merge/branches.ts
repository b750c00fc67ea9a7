/**
 * One project with four branches that different people build at the same time: the same tools and, on three of them,
 * the same dependencies; each branch has its own source. What a step makes is different each time that it runs, as
 * what compilers and package managers make often is.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { createTemporaryFolder } from '../../test/harness/index.ts'

export interface Branch {
  readonly name: string
  /** The context, with its Dockerfile. */
  readonly folder: string
}

export interface Branches extends AsyncDisposable {
  readonly all: readonly Branch[]
  /** RUN, COPY and WORKDIR of each branch. */
  readonly stepsEach: number
}

const dockerfile = (base: string): string => `FROM ${base} AS tools
WORKDIR /tools
RUN head -c 400000 /dev/urandom > compiler
RUN head -c 200000 /dev/urandom > linter

FROM ${base}
WORKDIR /app
COPY lock .
RUN head -c 1500000 /dev/urandom > dependencies
COPY --from=tools /tools /tools
COPY source source
RUN cat source/* | md5sum > compiled && head -c 300000 /dev/urandom >> compiled
RUN md5sum compiled dependencies > tested
RUN head -c 100000 /dev/urandom > bundle
`

/** @param base image that the steps run on. */
export async function createBranches(base: string): Promise<Branches> {
  const root = await createTemporaryFolder('branches')
  const names = ['main', 'search', 'payments', 'upgrade']
  const all = await Promise.all(
    names.map(async (name): Promise<Branch> => {
      const folder = path.join(root.path, name)
      await mkdir(path.join(folder, 'source'), { recursive: true })
      await writeFile(path.join(folder, 'Dockerfile'), dockerfile(base))
      // The one that brings other dependencies.
      await writeFile(path.join(folder, 'lock'), name === 'upgrade' ? 'two' : 'one')
      await writeFile(path.join(folder, 'source', 'common'), 'as everywhere')
      await writeFile(path.join(folder, 'source', 'feature'), `of ${name}`)
      return { name, folder }
    }),
  )
  const stepsEach = dockerfile(base).match(/^(RUN|COPY|WORKDIR) /gm)?.length ?? 0
  return { all, stepsEach, [Symbol.asyncDispose]: () => root[Symbol.asyncDispose]() }
}

/**
 * Steps that really ran, by buildx's plain progress: those that are shown as done and not as cached. What is not shown
 * at all was not needed.
 */
export function stepsThatRan(progress: string): number {
  const steps = new Set<string>()
  const cached = new Set<string>()
  const done = new Set<string>()
  for (const line of progress.split('\n')) {
    const [, vertex, rest = ''] = /^(#\d+) (.*)$/.exec(line) ?? []
    if (vertex === undefined) continue
    if (/^\[.*\d+\/\d+\] (RUN|COPY|ADD|WORKDIR) /.test(rest)) steps.add(vertex)
    if (/^CACHED\b/.test(rest)) cached.add(vertex)
    if (/^DONE\b/.test(rest)) done.add(vertex)
  }
  return [...steps].filter((vertex) => done.has(vertex) && !cached.has(vertex)).length
}
