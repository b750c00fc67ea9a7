/** Four nodes of a Hearth that build the branches at the same time, and what a fifth, fresh one reuses of that. */
import { startMesh } from '../../test/harness/index.ts'
import { type Branches, stepsThatRan } from './branches.ts'
import type { OutputOf } from './stock-builders.ts'

/** @returns the part of all steps of all branches that did not run on the fifth node. */
export async function reuseOfHearth(
  branches: Branches,
  outputOf: OutputOf,
  options: { reach: readonly string[] },
): Promise<number> {
  await using mesh = await startMesh({ nodes: branches.all.length, ...options })
  const build = async (place: number, name: string, folder: string) => {
    const node = mesh.nodes[place]
    if (node === undefined) throw new Error('there is no node for it')
    const built = await node.build(['--output', outputOf(name), folder])
    if (built.exitCode !== 0) throw new Error(`a build failed: ${built.stderr.slice(-4000)}`)
    return built
  }
  const first = await Promise.all(
    branches.all.map(({ name, folder }, each) => build(each, name, folder)),
  )
  for (const { buildId } of first) await mesh.settled(buildId)
  await mesh.addNode()
  let ran = 0
  for (const { name, folder } of branches.all) {
    ran += stepsThatRan((await build(branches.all.length, name, folder)).stderr)
  }
  return 1 - ran / (branches.all.length * branches.stepsEach)
}
