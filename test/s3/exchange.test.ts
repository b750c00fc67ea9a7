/** Blobs of the object store by the exchange: presigned URLs, read in ranges by its thread. */
import { fork as forkProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import test from 'ava'
import { type Digest, digestHex, digestOf } from '../../core/digest.ts'
import { mib } from '../../core/limits.ts'
import type { BlobSource } from '../../mesh/exchange/index.ts'
import { createPeers } from '../../mesh/exchange/peers.fixture.ts'
import { startFaultyProxy } from '../../node/cache-store/s3-tier/faulty-proxy.fixture.ts'
import type { S3Tier } from '../../node/cache-store/s3-tier/index.ts'
import {
  makeFragment,
  ownPlace,
  putObject,
  removeObject,
  sharedS3,
  startNode,
  until,
} from '../../node/cache-store/s3-tier/tier.fixture.ts'
import { read, scope, temporaryFolder } from '../../node/cache-store/temporary-store.fixture.ts'
import { startS3 } from '../harness/index.ts'
import { makePrivateCertificate } from './private-authority.ts'

const s3 = sharedS3(test)

async function sourceOf(tier: S3Tier, digest: Digest): Promise<BlobSource> {
  return { type: 'url', name: tier.name, url: await tier.urlOf(digest) }
}

test('a blob comes in ranges by its URL, without credentials', async (t) => {
  const url = ownPlace(s3())
  const proxy = await startFaultyProxy(t, s3())
  const { store, tier } = await startNode(t, proxy.server, url)
  const fragment = await makeFragment(store, [20 * mib + 1])
  const [blob] = fragment.blobs
  if (blob === undefined) return t.fail()
  await tier.keep(scope, fragment)
  const peer = await (await createPeers(t)).add('node-1')
  proxy.requests.length = 0
  const { outcome, file } = await peer.fetch(blob, [await sourceOf(tier, blob.digest)])
  t.like(outcome, { type: 'fetched', faults: [] })
  t.is(digestOf(await readFile(file)), blob.digest)
  t.true(proxy.requests.filter((request) => request.startsWith('GET ')).length >= 3)
})

test('what is missing or damaged there is a fault of the object store, and comes from a peer', async (t) => {
  const url = ownPlace(s3())
  const { store, tier } = await startNode(t, s3(), url)
  const fragment = await makeFragment(store, [3 * mib])
  const [blob] = fragment.blobs
  if (blob === undefined) return t.fail()
  await tier.keep(scope, fragment)
  const key = `${path.basename(url)}/blobs/sha256/${digestHex(blob.digest)}`
  const peers = await createPeers(t)
  const holder = await peers.add('holder')
  const asker = await peers.add('asker', { limits: { asideMs: 1 } })
  await holder.hold((await read(store, scope, blob.digest)) ?? Buffer.alloc(0))
  const damages = [
    ['wrong bytes', () => putObject(s3(), key, Buffer.alloc(blob.size))],
    ['absent', () => removeObject(s3(), key)],
  ] as const
  for (const [reason, damage] of damages) {
    await damage()
    const sources = [await sourceOf(tier, blob.digest), holder.source]
    const { outcome } = await asker.fetch(blob, sources)
    t.like(outcome, { type: 'fetched' })
    const fault = outcome.faults.find(({ source }) => source === tier.name)
    t.is(fault?.reason, reason)
    if (fault !== undefined) tier.reportFault(blob.digest, fault)
    await until(() => !tier.has(blob.digest))
    await tier.keep(scope, fragment)
    t.true(tier.has(blob.digest))
  }
})

test('an object store that goes away in the middle of a blob is passed over, and rests', async (t) => {
  const url = ownPlace(s3())
  const proxy = await startFaultyProxy(t, s3())
  const { store, tier } = await startNode(t, proxy.server, url)
  const fragment = await makeFragment(store, [20 * mib])
  const [blob] = fragment.blobs
  if (blob === undefined) return t.fail()
  await tier.keep(scope, fragment)
  const peer = await (await createPeers(t)).add('node-1', {
    limits: { stallMs: 200, pieceBytes: 2 * mib },
  })
  const source = await sourceOf(tier, blob.digest)
  let gets = 0
  proxy.breakWith((request) => {
    if (!request.startsWith('GET ')) return 'silence'
    gets += 1
    return gets > 2 ? 'silence' : undefined
  })
  const { outcome } = await peer.fetch(blob, [source])
  t.is(outcome.type, 'failed')
  for (const fault of outcome.faults) tier.reportFault(blob.digest, fault)
  t.false(tier.has(blob.digest))
  proxy.breakWith(() => undefined)
  await until(() => tier.has(blob.digest))
  t.pass()
})

test('an endpoint with TLS of a private authority is trusted by NODE_EXTRA_CA_CERTS', async (t) => {
  const folder = await temporaryFolder(t)
  const tls = await makePrivateCertificate(folder)
  await using server = await startS3({ tls })
  const { endpoint, region, accessKeyId, secretAccessKey } = server
  const ask = async (name: string, environment: NodeJS.ProcessEnv) => {
    const child = forkProcess(new URL('./tls-node.fixture.ts', import.meta.url), {
      execArgv: [],
      env: { ...process.env, ...environment },
      silent: true,
    })
    child.send({
      url: ownPlace(server),
      endpoint,
      region,
      credentials: { accessKeyId, secretAccessKey },
      folder: path.join(folder, name),
    })
    const [answer] = await once(child, 'message')
    child.kill()
    return answer
  }
  const { NODE_EXTRA_CA_CERTS: _none, ...plain } = process.env
  t.regex(
    (await ask('stranger', { ...plain, NODE_EXTRA_CA_CERTS: '' })).trouble,
    /NODE_EXTRA_CA_CERTS/,
  )
  t.deepEqual(await ask('trusting', { NODE_EXTRA_CA_CERTS: tls.authority }), { outcome: 'fetched' })
})
