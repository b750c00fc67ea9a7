/** A mesh with one node that knows the project well, and nodes that have just joined and know nothing. */
import { setTimeout as delay } from 'node:timers/promises'
import { runTimed, startMesh, type TestMesh } from '../../test/harness/index.ts'

export interface HearthContestants extends AsyncDisposable {
  /** In seconds, on the node that has built the project before. */
  buildHot(args: readonly string[]): Promise<number>
  /** Resolves when a mount that the first build has filled can be had by other nodes. */
  mountsTold(): Promise<void>
  /** In seconds, on a node that has just joined. It is gone afterwards. */
  buildFresh(args: readonly string[]): Promise<number>
}

const project = 'bench'
const joinedWithinMs = 60_000

/** @param args of the first build, which warms up the first node. */
export async function startHearthNodes(
  args: readonly string[],
  options: { reach: readonly string[]; say: (line: string) => void },
): Promise<HearthContestants> {
  const { reach, say } = options
  await using cleanUp = new AsyncDisposableStack()
  const mesh = cleanUp.use(await startMesh({ nodes: 1, reach }))
  const [hot] = mesh.nodes
  if (hot === undefined) throw new Error('a mesh of one node has a node')
  const seconds = await buildOn(mesh, hot, args)
  say(`hearth, warming up: ${seconds.toFixed(2)} s`)
  const owned = cleanUp.move()
  return {
    buildHot: (more) => buildOn(mesh, hot, more),
    mountsTold: () => mountsTold(mesh),
    async buildFresh(more) {
      const fresh = await mesh.addNode()
      await inMesh(mesh, fresh.id)
      const took = await buildOn(mesh, fresh, more)
      await fresh.stop()
      return took
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

/** Straight to a node, because the coordinator would choose the one that knows the project. */
async function buildOn(
  mesh: TestMesh,
  node: TestMesh['nodes'][number],
  args: readonly string[],
): Promise<number> {
  await runTimed('sync', [])
  const { exitCode, stderr, seconds, buildId } = await node.build(args, { project })
  if (exitCode !== 0) {
    throw new Error(`a build failed (exit code ${exitCode}):\n${stderr.slice(-4000)}`)
  }
  // Nothing of it goes on while the next contestant builds.
  await mesh.settled(buildId)
  return seconds
}

/** A node of a fleet is in the mesh long before a build comes. */
async function inMesh(mesh: TestMesh, nodeId: string): Promise<void> {
  const limit = AbortSignal.timeout(joinedWithinMs)
  for (;;) {
    const node = (await mesh.listNodes()).find(({ id }) => id === nodeId)
    if (node?.inMesh === true) return
    if (limit.aborted) throw new Error(`node ${nodeId} did not come into the mesh`)
    await delay(100)
  }
}

const toldWithinMs = 120_000

async function mountsTold(mesh: TestMesh): Promise<void> {
  const limit = AbortSignal.timeout(toldWithinMs)
  for (;;) {
    const { stdout } = await mesh.run(['mounts', '--json'])
    const { nodes } = JSON.parse(stdout) as { nodes: { mounts: { files: number }[] }[] }
    if (nodes.some(({ mounts }) => mounts.some(({ files }) => files > 0))) return
    if (limit.aborted) throw new Error('no cache mount was taken a snapshot of')
    await delay(200)
  }
}
