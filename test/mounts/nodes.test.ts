/** Whole nodes as processes: a mount goes from one to the other, and what two have grown side by side comes to a third. */
import { setTimeout as delay } from 'node:timers/promises'
import test from 'ava'
import { type MeshNode, startMesh, startS3, type TestMesh } from '../harness/index.ts'
import { createContext } from '../proxy/context.ts'

let turn = 0

/** @returns what the command printed, line by line. */
async function runStep(mesh: TestMesh, node: MeshNode, command: string, target: string) {
  turn += 1
  await using context = await createContext(
    `RUN --mount=type=cache,target=${target} echo turn ${turn}; { ${command}; } 2>&1 | sed 's/^/out: /'`,
  )
  const built = await node.build([context.path])
  if (built.exitCode !== 0) throw new Error(built.stderr)
  await mesh.settled(built.buildId)
  return [...built.stderr.matchAll(/^#\d+ [\d.]+ out: (.*)/gm)].map(([, line]) => line)
}

async function saysSoon({ log }: MeshNode, text: string, times = 1): Promise<void> {
  const limit = AbortSignal.timeout(60_000)
  while (log().split(text).length - 1 < times) {
    if (limit.aborted) throw new Error(`it does not say "${text}":\n${log().slice(-3000)}`)
    await delay(50)
  }
}

const taken = 'a cache mount was taken a snapshot of'

test('a fresh node has the mounts of others, and two that grew side by side are one there', async (t) => {
  await using mesh = await startMesh({ nodes: 2 })
  const [first, second] = mesh.nodes
  if (first === undefined || second === undefined) return t.fail()
  // The kind is told by the place and what is in it: a cache of pip's only ever grows.
  const target = '/root/.cache/pip'
  await runStep(mesh, first, `mkdir -p ${target}/http; echo one >${target}/http/one`, target)
  await saysSoon(first, taken)
  t.deepEqual(await runStep(mesh, second, `cd ${target}/http; cat *; echo two >two`, target), [
    'one',
  ])
  await saysSoon(second, taken)
  await runStep(mesh, first, `echo three >${target}/http/three`, target)
  await saysSoon(first, taken, 2)
  const third = await mesh.addNode()
  t.deepEqual(await runStep(mesh, third, `cd ${target}/http; cat one two three`, target), [
    'one',
    'two',
    'three',
  ])

  const listed = JSON.parse((await mesh.run(['mounts', '--json'])).stdout) as ListedMounts
  const mounts = listed.nodes.flatMap((node) => node.mounts)
  t.is(mounts.length, 3)
  t.true(mounts.every(({ id, kind }) => id === target && kind === 'union'))
  const reset = await mesh.run(['mounts', 'reset', target, '--project', 'app'])
  t.is(reset.exitCode, 0, reset.stderr)
  t.deepEqual(await runStep(mesh, third, `ls -A ${target}`, target), [])
  t.deepEqual(await runStep(mesh, first, `ls -A ${target}`, target), [])
})

interface ListedMounts {
  nodes: { mounts: { id: string; kind: string }[] }[]
}

test('the object store keeps mounts for a node that comes when all others are gone', async (t) => {
  await using s3 = await startS3()
  await using mesh = await startMesh({ nodes: 1, s3 })
  const [first] = mesh.nodes
  if (first === undefined) return t.fail()
  await runStep(mesh, first, 'echo kept >/cache/file', '/cache')
  await saysSoon(first, 'a cache mount is in the object store')
  await first.stop()
  const second = await mesh.addNode()
  t.deepEqual(await runStep(mesh, second, 'cat /cache/file', '/cache'), ['kept'])
})
