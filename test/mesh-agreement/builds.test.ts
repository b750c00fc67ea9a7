/** Real builds on three nodes whose caches are too small for them; afterwards everybody knows what everybody has. */
import { existsSync } from 'node:fs'
import { cp } from 'node:fs/promises'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import test from 'ava'
import { createTemporaryFolder, type MeshPart, startMesh } from '../harness/index.ts'
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
  const parts = [mesh.coordinator, ...mesh.nodes]
  await atRest(parts.map(meshFolderOf))
  const logs = [earlierLog, ...mesh.nodes.map((node) => node.log())]
  t.true(logs.join('').split('evicted from the cache store').length > mesh.nodes.length)
  // Of one moment: while one after the other stops, those that are left make up for those that are gone.
  await using copies = await createTemporaryFolder('at-rest')
  for (const part of parts) part.freeze()
  const [ofCoordinator = '', ...ofNodes] = await Promise.all(
    parts.map(async (part, place) => {
      const copy = path.join(copies.path, `${place}`)
      for (const name of ['mesh', 'cache-store', 'records']) {
        const from = path.join(meshFolderOf(part), '..', name)
        if (existsSync(from)) await cp(from, path.join(copy, name), { recursive: true })
      }
      return copy
    }),
  )
  for (const part of parts) part.thaw()
  for (const node of mesh.nodes) await node.stop()
  const stopped = await Promise.all(
    ofNodes.map((folder) =>
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
  const coordinator = await readStopped({ mesh: path.join(ofCoordinator, 'mesh') })
  t.deepEqual(disagreementsOf(stopped, [coordinator]), [])
})

function meshFolderOf({ dataFolder }: MeshPart): string {
  const inside = path.join(dataFolder, 'node')
  return path.join(existsSync(inside) ? inside : path.join(dataFolder, 'coordinator'), 'mesh')
}

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
