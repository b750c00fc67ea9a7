import { randomBytes } from 'node:crypto'
import { rm } from 'node:fs/promises'
import test, { type ExecutionContext } from 'ava'
import { type Digest, digestOf } from '../../core/digest.ts'
import {
  blobFile,
  filesOf,
  never,
  read,
  scope,
} from '../../node/cache-store/temporary-store.fixture.ts'
import { freePort } from '../harness/index.ts'
import {
  createMeshNodes,
  heardOf,
  type MeshNode,
  type MeshNodeOptions,
} from './mesh-nodes.fixture.ts'
import { createWire, type Wire } from './wire.ts'

const mebibyte = 1 << 20
const hourMs = 60 * 60_000

function bring(node: MeshNode, digest: Digest, size: number) {
  return node.sources.bring(scope, { digest, size }, { signal: never })
}

/** Nothing is in the store but what hashes to its name. */
async function requireSound(t: ExecutionContext, node: MeshNode): Promise<void> {
  for await (const event of node.store.verify({ signal: never })) {
    if (event.type === 'finding') t.fail(`${event.digest} ${event.problem}`)
  }
  t.deepEqual((await filesOf(node.storeFolder)).temporary, [])
}

async function requireHeld(t: ExecutionContext, node: MeshNode, digest: Digest): Promise<void> {
  const bytes = await read(node.store, scope, digest)
  t.is(bytes && digestOf(bytes), digest)
  await requireSound(t, node)
}

/** The log says which peer it was, and what was wrong with it. */
function requireNamed(
  t: ExecutionContext,
  node: MeshNode,
  culprit: MeshNode,
  ...reasons: string[]
): void {
  const isNamed = node.log.some(
    (line) =>
      line.includes(`"peer":"${culprit.peerId}"`) &&
      line.includes(`"source":"${culprit.nodeId}"`) &&
      reasons.some((reason) => line.includes(`"reason":"${reason}"`)),
  )
  t.true(isNamed, node.log.filter((line) => line.includes('"level":40')).join(''))
}

/** One who will be at fault, one who will not, and one who asks. */
async function start(t: ExecutionContext, options: MeshNodeOptions = {}) {
  const nodes = await createMeshNodes(t)
  const culprit = await nodes.add('culprit', options)
  const honest = await nodes.add('honest')
  const taker = await nodes.add('taker')
  await nodes.introduce()
  return { culprit, honest, taker }
}

const harms = {
  'a flipped bit': {
    reason: 'wrong bytes',
    harm: (node: MeshNode, digest: Digest, bytes: Buffer) =>
      node.harm(digest, (file) =>
        file.write(Buffer.from([(bytes[70_000] ?? 0) ^ 4]), 0, 1, 70_000),
      ),
  },
  'a truncated blob': {
    reason: 'broken off',
    harm: (node: MeshNode, digest: Digest) => node.harm(digest, (file) => file.truncate(90_000)),
  },
}

for (const [what, { reason, harm }] of Object.entries(harms)) {
  test.serial(
    `${what} is a miss, names its peer, and costs nothing once another has the blob`,
    async (t) => {
      const { culprit, honest, taker } = await start(t)
      const bytes = randomBytes(2 * mebibyte + 5)
      const digest = await culprit.hold(bytes)
      await harm(culprit, digest, bytes)
      await heardOf(taker, digest, [culprit])
      const missed = await bring(taker, digest, bytes.length)
      t.is(missed.type, 'missed')
      t.is(taker.store.size(digest), undefined)
      requireNamed(t, taker, culprit, reason)
      t.is(taker.sources.counts().faults.get('culprit'), 1)

      await honest.hold(bytes)
      await heardOf(taker, digest, [culprit, honest])
      t.is((await bring(taker, digest, bytes.length)).type, 'brought')
      await requireHeld(t, taker, digest)
      t.false(taker.sources.counts().faults.has('honest'))
    },
  )
}

test.serial(
  'several at once who do not all tell the truth bring a blob that is right',
  async (t) => {
    const slow = { exchange: { uploadBytesPerS: 6 * mebibyte } }
    const nodes = await createMeshNodes(t)
    const culprit = await nodes.add('culprit', slow)
    const [first, second] = [await nodes.add('first', slow), await nodes.add('second', slow)]
    const taker = await nodes.add('taker')
    await nodes.introduce()
    const bytes = randomBytes(12 * mebibyte)
    const digest = digestOf(bytes)
    for (const node of [culprit, first, second]) await node.hold(bytes)
    await culprit.harm(digest, (file) => file.write(Buffer.alloc(bytes.length, 7), 0))
    await heardOf(taker, digest, [culprit, first, second])
    t.is((await bring(taker, digest, bytes.length)).type, 'brought')
    await requireHeld(t, taker, digest)
    const blamed = [...taker.sources.counts().faults.keys()]
    t.deepEqual(
      blamed.filter((name) => name !== 'culprit'),
      [],
    )
  },
)

test.serial('a peer that accepts and then says nothing is given up, and named', async (t) => {
  // TLS takes some 2,000 bytes of the giving side.
  const { culprit, honest, taker } = await start(t, {
    bulkPort: async (port) => (await createWire(t, port, { bytesMax: 6_000 })).port,
  })
  const bytes = randomBytes(3 * mebibyte)
  const digest = await culprit.hold(bytes)
  await heardOf(taker, digest, [culprit])
  const alone = await bring(taker, digest, bytes.length)
  t.is(alone.type, 'missed')
  requireNamed(t, taker, culprit, 'stalled')

  await honest.hold(bytes)
  await heardOf(taker, digest, [culprit, honest])
  const brought = await bring(taker, digest, bytes.length)
  if (brought.type !== 'brought') return t.fail(JSON.stringify(brought))
  t.true((brought.bytesBySource.get('honest') ?? 0) >= bytes.length)
  await requireHeld(t, taker, digest)
})

test.serial('a partition in the middle of a transfer costs time, not the blob', async (t) => {
  const wires: Wire[] = []
  const through = async (port: number) => {
    const wire = await createWire(t, port)
    wires.push(wire)
    return wire.port
  }
  const slow = { uploadBytesPerS: 8 * mebibyte }
  const { culprit, honest, taker } = await start(t, {
    ...{ bulkPort: through, meshPort: through, exchange: slow },
  })
  const bytes = randomBytes(24 * mebibyte)
  const digest = await culprit.hold(bytes)
  await heardOf(taker, digest, [culprit])
  const bringing = bring(taker, digest, bytes.length)
  const [bulk] = wires
  await bulk?.passed(4 * mebibyte)
  for (const wire of wires) wire.cut()
  t.is((await bringing).type, 'missed')
  t.is(taker.store.size(digest), undefined)
  requireNamed(t, taker, culprit, 'stalled')
  await honest.hold(bytes)
  await heardOf(taker, digest, [culprit, honest])
  t.is((await bring(taker, digest, bytes.length)).type, 'brought')
  await requireHeld(t, taker, digest)
})

test.serial(
  'whoever is cut off in the middle is replaced while the transfer goes on',
  async (t) => {
    const nodes = await createMeshNodes(t)
    const wires: Wire[] = []
    const slow = { exchange: { uploadBytesPerS: 4 * mebibyte } }
    const culprit = await nodes.add('culprit', {
      ...slow,
      async bulkPort(port) {
        const wire = await createWire(t, port)
        wires.push(wire)
        return wire.port
      },
    })
    const honest = await nodes.add('honest', slow)
    const taker = await nodes.add('taker')
    await nodes.introduce()
    const bytes = randomBytes(24 * mebibyte)
    const digest = await culprit.hold(bytes)
    await honest.hold(bytes)
    await heardOf(taker, digest, [culprit, honest])
    const bringing = bring(taker, digest, bytes.length)
    const [wire] = wires
    await wire?.passed(2 * mebibyte)
    wire?.cut()
    t.is((await bringing).type, 'brought')
    await requireHeld(t, taker, digest)
    requireNamed(t, taker, culprit, 'slow', 'stalled')
  },
)

test.serial('clocks an hour apart, in both directions, keep nobody from anything', async (t) => {
  const nodes = await createMeshNodes(t)
  const [early, late, right] = [
    await nodes.add('early', { clockOffsetMs: -hourMs }),
    await nodes.add('late', { clockOffsetMs: hourMs }),
    await nodes.add('right'),
  ]
  await nodes.introduce()
  const all = [early, late, right]
  for (const giver of all) {
    const digest = await giver.hold(randomBytes(50_000))
    for (const taker of all.filter((node) => node !== giver)) {
      await heardOf(taker, digest, [
        giver,
        ...all.filter((node) => node.store.size(digest) && node !== giver && node !== taker),
      ])
      t.is((await bring(taker, digest, 50_000)).type, 'brought')
      await requireHeld(t, taker, digest)
    }
  }
  // What is dropped is heard of too, whatever the clocks say.
  const digest = await early.hold(randomBytes(1_000))
  await heardOf(late, digest, [early])
  await early.store.remove(scope, digest)
  await heardOf(late, digest, [])
})

test.serial('a firewall before the direct road costs speed, not the blob', async (t) => {
  const { culprit, taker } = await start(t, { bulkPort: freePort })
  const bytes = randomBytes(5 * mebibyte)
  const digest = await culprit.hold(bytes)
  await heardOf(taker, digest, [culprit])
  const brought = await bring(taker, digest, bytes.length)
  t.deepEqual(brought, { type: 'brought', bytesBySource: new Map([['culprit', bytes.length]]) })
  await requireHeld(t, taker, digest)
  t.is(taker.sources.counts().faults.size, 0)
})

test.serial('an advert that is no longer true is a miss that blames nobody', async (t) => {
  const { culprit, honest, taker } = await start(t)
  const bytes = randomBytes(1_000)
  const digest = await culprit.hold(bytes)
  await heardOf(taker, digest, [culprit])
  await rm(blobFile(culprit.storeFolder, digest))
  t.is((await bring(taker, digest, 1_000)).type, 'missed')
  await honest.hold(bytes)
  await heardOf(taker, digest, [culprit, honest])
  t.is((await bring(taker, digest, 1_000)).type, 'brought')
  t.is(taker.sources.counts().faults.size, 0)
})
