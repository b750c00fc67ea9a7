import { createPublicKey, generateKeyPairSync } from 'node:crypto'
import path from 'node:path'
import test from 'ava'
import { createMembershipVerifier } from '../../mesh/index.ts'
import { eventually, temporaryFolder } from '../../mesh/peers.fixture.ts'
import type { ScaledMesh } from './memory-mesh.ts'
import { createMemoryNetwork } from './memory-network.ts'
import { openPeer } from './open-peer.ts'

const limitMs = 60_000

test('peers in memory hear of each other over hubs, as real ones do', async (t) => {
  const folder = await temporaryFolder(t)
  const { privateKey: key } = generateKeyPairSync('ed25519')
  const publicKey = createPublicKey(key).export({ type: 'spki', format: 'der' })
  const verifier = createMembershipVerifier({ publicKeys: [publicKey] })
  using network = createMemoryNetwork(verifier)
  await using stack = new AsyncDisposableStack()
  const open = async (number: number) => {
    const opened = await openPeer({
      ...{ network, verifier, key, folder: path.join(folder, `${number}`) },
      ...{ isHub: number < 3, advertises: number % 2 === 0 },
      relay: { fullMeshMax: 5, gapMs: 50, presenceGraceMs: 500 },
    })
    return { ...opened, mesh: stack.use(opened.mesh) }
  }
  const peers = await Promise.all(Array.from({ length: 10 }, (_, number) => open(number)))
  const hubs = peers.slice(0, 3).map(({ signed }) => signed)
  for (const { mesh } of peers) mesh.host.learn(hubs)

  const publishers = peers.filter(({ mesh }) => mesh.adverts !== undefined)
  for (const [number, { mesh }] of publishers.entries()) {
    const entry = { key: Buffer.alloc(16, number + 1), size: 1, heat: 'hot' } as const
    await mesh.adverts?.publish([entry])
  }
  const knowsAll = ({ host, index }: ScaledMesh) =>
    host.members().length === peers.length - 1 &&
    publishers.every(({ mesh }) => {
      const known = index.position(mesh.host.peerId)
      return mesh.host === host || known?.sequence === mesh.adverts?.position().sequence
    })
  await eventually(() => peers.every(({ mesh }) => knowsAll(mesh)), 'all news', limitMs)
  const connections = ({ host }: ScaledMesh) =>
    host.members().filter(({ connected }) => connected).length
  await eventually(
    () => peers.slice(3).every(({ mesh }) => connections(mesh) === 2),
    'the end of passing connections',
    limitMs,
  )
  t.true(network.bytes() > 0)

  const { mesh: gone } = peers[9] ?? {}
  await gone?.[Symbol.asyncDispose]()
  const left = peers.slice(0, 9)
  await eventually(
    () => left.every(({ mesh }) => !mesh.relay.isPresent(gone?.host.peerId ?? '')),
    'word of who is gone',
    limitMs,
  )
})
