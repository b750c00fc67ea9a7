/** Thousands of commits, removals, evictions and restarts on three nodes; afterwards everybody knows what everybody has. */
import { rm } from 'node:fs/promises'
import path from 'node:path'
import test from 'ava'
import pino from 'pino'
import { type SeededRandom, seededRandom } from '../../bench/routing/seeded-random.ts'
import { eventually, limit } from '../control/parts.ts'
import {
  allConnected,
  type PeeringNode,
  type PeeringNodeOptions,
  scope,
  startPeeringMesh,
} from '../mesh/parts.ts'
import { disagreement, disagreementsOf, indexSays, readStopped, storeSays } from './says.ts'

const commitsMin = 2_000
const commitsPerTurn = 40
/** About 350 blobs: most of what is committed is evicted again. */
const policies = new Map([['app', { bytesMax: 400_000, daysMax: 30 }]])
const names = ['one', 'two', 'three'] as const

test('after 2,000 commits with evictions, removals and restarts, stores and indexes agree exactly', async (t) => {
  t.timeout(10 * 60_000)
  await using mesh = await startPeeringMesh()
  const random = seededRandom(8)
  const nodes = new Map<string, PeeringNode>()
  const evicted = new Map<string, number>()
  const start = async (name: string): Promise<void> => {
    const node = await mesh.add(name, { log: countEvictions(evicted, name) })
    node.store.setPolicies(policies)
    nodes.set(name, node)
  }
  const present = (): PeeringNode[] => names.flatMap((name) => nodes.get(name) ?? [])
  for (const name of names) await start(name)
  await allConnected(present())

  let commits = 0
  for (let round = 0; commits < commitsMin; round += 1) {
    const work = present().map((node) => {
      const others = present().filter((each) => each !== node)
      return commitSome(node, others, random)
    })
    const name = names[round % names.length] ?? 'one'
    const node = nodes.get(name)
    if (round % 2 === 1 && node !== undefined) {
      // In the middle of its work.
      await Promise.race(work)
      await node[Symbol.asyncDispose]()
      await loseSomething(round, path.join(node.folder, 'mesh'))
      await start(name)
    }
    for (const done of await Promise.all(work)) commits += done
  }
  t.log(`${commits} commits, evicted: ${[...evicted.values()].join(', ')}`)
  for (const name of names) t.true((evicted.get(name) ?? 0) > 50, name)
  // At rest: what is evicted while the nodes stop, one after the other, those that are gone could not hear.
  for (const node of present()) node.store.setPolicies(new Map())

  const disagreements = await eventually(
    async () =>
      present().flatMap((node) =>
        present().flatMap(({ id, peering }) =>
          disagreement(
            `what ${id} says of ${node.id}`,
            indexSays(peering.mesh.index, node.peerId),
            storeSays(node.store),
          ),
        ),
      ),
    (lines) => lines.length === 0,
  )
  t.deepEqual(disagreements, [])
  for (const node of present()) t.true(storeSays(node.store).length > 100)

  const folders = present().map(({ folder }) => folder)
  for (const node of present()) await node[Symbol.asyncDispose]()
  await mesh.coordinator[Symbol.asyncDispose]()
  const stopped = await Promise.all(
    folders.map((folder) =>
      readStopped({ mesh: path.join(folder, 'mesh'), store: path.join(folder, 'cache') }),
    ),
  )
  const coordinator = await readStopped({ mesh: path.join(mesh.coordinatorFolder, 'mesh') })
  t.deepEqual(disagreementsOf(stopped, [coordinator]), [])
})

/** Ends early when the node is stopped. @returns how many commits it got done. */
async function commitSome(
  node: PeeringNode,
  others: readonly PeeringNode[],
  random: SeededRandom,
): Promise<number> {
  let [left, done] = [commitsPerTurn, 0]
  const lane = async (): Promise<void> => {
    for (; left > 0; left -= 1) {
      try {
        await act(node, others, random)
        done += 1
      } catch {
        return
      }
    }
  }
  await Promise.all([lane(), lane(), lane(), lane()])
  return done
}

/** A blob comes, of this node's own or from another one; now and then one goes, and sometimes comes back. */
async function act(
  node: PeeringNode,
  others: readonly PeeringNode[],
  random: SeededRandom,
): Promise<void> {
  const kind = random.next()
  if (kind < 0.15) {
    const held = [...random.pick(others).store.blobs()]
    if (held.length > 0) {
      await node.sources.bring(scope, random.pick(held), { signal: limit() })
      return
    }
  }
  const bytes = Buffer.alloc(100 + Math.floor(random.next() * 2_000), `${random.next()}`)
  const digest = await node.hold(bytes)
  if (kind > 0.7) await node.store.remove(scope, digest)
  if (kind > 0.85) await node.hold(bytes)
}

/** Between two lives: nothing; or the index, as after a power cut; or the log. */
async function loseSomething(round: number, folder: string): Promise<void> {
  const lost = [undefined, 'digest-index', 'advert-log'][Math.floor(round / 6) % 3]
  if (lost !== undefined) await rm(path.join(folder, lost), { recursive: true })
}

function countEvictions(
  evicted: Map<string, number>,
  name: string,
): NonNullable<PeeringNodeOptions['log']> {
  return pino(
    { level: 'info' },
    {
      write(line: string) {
        const entry = JSON.parse(line) as { msg: string; blobs?: number }
        if (entry.msg !== 'evicted from the cache store') return
        evicted.set(name, (evicted.get(name) ?? 0) + (entry.blobs ?? 0))
      },
    },
  )
}
