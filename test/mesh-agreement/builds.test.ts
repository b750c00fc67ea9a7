/** Real builds on three nodes whose caches are too small for them; afterwards everybody knows what everybody has. */
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import test from 'ava'
import { startMesh } from '../harness/index.ts'
import { createContext } from '../proxy/context.ts'
import { connectOperator } from './operator.ts'
import { disagreementsOf, positionsOf, readStopped } from './says.ts'

const builds = 50
/** Of BuildKit's state and the store together: half of what a node makes and is given to keep. */
const bytesMax = 12_000_000
/** With what the first node is still exporting. */
const killedAfter = 24
/** A state that has rested for 5 s is looked at, and pruned, which says and evicts something once more. */
const restMs = 15_000

test('after 50 real builds with evictions, stores and indexes agree exactly', async (t) => {
  t.timeout(15 * 60_000)
  await using mesh = await startMesh({ nodes: 3, slots: 1 })
  using operator = await connectOperator(mesh)
  await operator.createProject('app', bytesMax)
  await using context = await createContext('ARG SEED\nRUN head -c 400000 /dev/urandom > /made')
  let made = 0
  let earlierLog = ''
  // Through the coordinator: who waits for a slot then holds no BuildKit that is to be pruned.
  const build = async (): Promise<void> => {
    made += 1
    const { exitCode, stderr } = await mesh.build([
      ...['--project', 'app', '--build-arg', `SEED=${made}`, context.path],
    ])
    t.is(exitCode, 0, stderr)
  }
  while (made < builds) {
    // As many as there are slots.
    await Promise.all(mesh.nodes.map(build))
    const [first] = mesh.nodes
    if (made === killedAfter && first !== undefined) {
      earlierLog = first.log()
      await first.kill()
      await first.start()
    }
  }
  const folders = mesh.nodes.map(({ dataFolder }) => path.join(dataFolder, 'node'))
  const ofCoordinator = path.join(mesh.coordinator.dataFolder, 'coordinator', 'mesh')
  await atRest([...folders.map((folder) => path.join(folder, 'mesh')), ofCoordinator])
  const logs = [earlierLog, ...mesh.nodes.map((node) => node.log())]
  t.true(logs.join('').split('evicted from the cache store').length > mesh.nodes.length)
  for (const node of mesh.nodes) await node.stop()
  await mesh.coordinator.stop()
  const stopped = await Promise.all(
    folders.map((folder) =>
      readStopped({
        mesh: path.join(folder, 'mesh'),
        store: path.join(folder, 'cache-store'),
        records: path.join(folder, 'records'),
      }),
    ),
  )
  for (const { store } of stopped) t.true(store.length > 5)
  t.log(
    stopped.map(({ store, steps }) => `${store.length} blobs, ${steps.length} steps`).join(', '),
  )
  t.deepEqual(disagreementsOf(stopped, [await readStopped({ mesh: ofCoordinator })]), [])
})

/**
 * Resolves when all have heard all that was said, and nobody has said anything more for a while.
 * @param folders of running peers.
 */
async function atRest(folders: readonly string[]): Promise<void> {
  const deadline = AbortSignal.timeout(5 * 60_000)
  for (let [said, sinceMs] = ['', Date.now()]; Date.now() - sinceMs < restMs; ) {
    const positions = await Promise.all(folders.map(positionsOf))
    const next = JSON.stringify(positions)
    const isSame = positions.every((each) => isDeepStrictEqual(each, positions[0]))
    if (deadline.aborted) throw new Error(`no rest: ${next}`)
    if (next !== said || !isSame) [said, sinceMs] = [next, Date.now()]
    await delay(200)
  }
}
