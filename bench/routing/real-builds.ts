/**
 * Twenty real builds on three real nodes, two at a time: what the coordinator foresaw of each when it was placed,
 * and what it took from then until its client had finished it.
 */
import { randomBytes } from 'node:crypto'
import path from 'node:path'
import { startMesh } from '../../test/harness/index.ts'
import { connectOperator } from '../../test/mesh-agreement/operator.ts'
import { createContext, writeContext } from '../../test/proxy/context.ts'

export interface ForeseenBuild {
  readonly what: string
  readonly nodeId: string
  readonly predictedS: number
  readonly measuredS: number
}

type Change = 'first' | 'none' | 'source' | 'dependencies'

/** Of each project, in order. */
const history: readonly Change[] = [
  ...(['first', 'none', 'source', 'source', 'none'] as const),
  ...(['dependencies', 'source', 'none', 'source', 'dependencies'] as const),
]
const projects = ['shop', 'blog'] as const

/** Steps that keep a core busy for a second or two, and leave something that no other step leaves. */
const dockerfile = [
  'COPY dependencies /dependencies',
  `RUN ${busyFor(900_000)} && head -c 4000000 /dev/urandom > /installed`,
  'COPY source /source',
  `RUN ${busyFor(600_000)} && head -c 1000000 /dev/urandom > /compiled`,
  'RUN cat /source /dependencies > /assembled',
].join('\n')

export async function foreseeBuilds(say: (line: string) => void): Promise<ForeseenBuild[]> {
  await using stack = new AsyncDisposableStack()
  const mesh = stack.use(await startMesh({ nodes: 3, slots: 1 }))
  using operator = await connectOperator(mesh)
  const contexts = new Map<string, string>()
  for (const project of projects) {
    const context = stack.use(
      await createContext(dockerfile, { source: project, dependencies: project }),
    )
    contexts.set(project, context.path)
  }
  const foreseen: ForeseenBuild[] = []
  const build = async (project: string, change: Change): Promise<void> => {
    const context = contexts.get(project) ?? ''
    if (change === 'source' || change === 'dependencies') {
      await writeContext(context, { [change]: randomBytes(20).toString('hex') })
    }
    const output = path.join(context, '..', `${path.basename(context)}.tar`)
    const { buildId, exitCode, stderr } = await mesh.build([
      ...['--project', project, '--output', `type=tar,dest=${output}`, context],
    ])
    if (buildId === undefined || exitCode !== 0) throw new Error(`a build failed: ${stderr}`)
    await mesh.settled(buildId)
    const { decisions, finishedAt, nodeIds } = await operator.build(buildId)
    const [decision] = decisions
    if (decision?.chosen === undefined || decision.decidedAt === undefined) {
      throw new Error(`nothing was decided for ${buildId}`)
    }
    foreseen.push({
      what: `${project}, ${change}`,
      nodeId: nodeIds[0] ?? '',
      predictedS: decision.chosen.endMs / 1000,
      measuredS: (Number(finishedAt) - Number(decision.decidedAt)) / 1000,
    })
  }
  for (const [place, change] of history.entries()) {
    await Promise.all(projects.map((project) => build(project, change)))
    say(`${(place + 1) * projects.length} of ${history.length * projects.length} real builds`)
  }
  return foreseen
}

/** How far what was foreseen is from what happened, as a part of the latter. */
export function predictionError({ predictedS, measuredS }: ForeseenBuild): number {
  return Math.abs(predictedS - measuredS) / measuredS
}

function busyFor(rounds: number): string {
  return `i=0; while [ $i -lt ${rounds} ]; do i=$((i+1)); done`
}
