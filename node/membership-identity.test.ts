import { createPrivateKey, createPublicKey } from 'node:crypto'
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { HearthError } from '../core/errors.ts'
import { openNodeIdentity } from './membership-identity.ts'

async function temporaryFolder(t: ExecutionContext): Promise<string> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'hearth-identity-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  return folder
}

const certificate = {
  nodeId: 'n1',
  certificatePem: 'a certificate',
  caPem: 'an authority',
  issuedAtMs: 1,
  expiresAtMs: 2,
}

test('a node keeps its key from the first moment, for its owner alone, and its certificate later', async (t) => {
  const folder = await temporaryFolder(t)
  const file = path.join(folder, 'identity.json')
  const first = await openNodeIdentity(folder)
  t.is((await stat(file)).mode & 0o777, 0o600)
  t.is(first.certificate(), undefined)
  t.throws(() => first.tls())
  const second = await openNodeIdentity(folder)
  t.deepEqual(second.publicKey, first.publicKey)
  await second.keep(certificate)
  t.is((await stat(file)).mode & 0o777, 0o600)
  const third = await openNodeIdentity(folder)
  t.deepEqual(third.certificate(), certificate)
  const key = createPublicKey(createPrivateKey(third.tls().privateKeyPem))
  t.deepEqual(key.export({ type: 'spki', format: 'der' }), first.publicKey)
})

const damages: readonly [string, (text: string) => string][] = [
  ['empty', () => ''],
  ['cut off', (text) => text.slice(0, 40)],
  ['of another kind', () => '{"version":1}'],
  ['without a real key', (text) => text.replace(/BEGIN PRIVATE KEY/, 'BEGIN NOTHING')],
]
for (const [kind, damage] of damages) {
  test(`an identity that is ${kind} is refused and left alone`, async (t) => {
    const folder = await temporaryFolder(t)
    const file = path.join(folder, 'identity.json')
    await openNodeIdentity(folder)
    const damaged = damage(await readFile(file, 'utf8'))
    await writeFile(file, damaged)
    const error = await t.throwsAsync(openNodeIdentity(folder), { instanceOf: HearthError })
    t.is(error?.code, 'corrupt')
    t.truthy(error?.hint)
    t.is(await readFile(file, 'utf8'), damaged)
  })
}

test('an identity of a newer Hearth is refused', async (t) => {
  const folder = await temporaryFolder(t)
  const file = path.join(folder, 'identity.json')
  await openNodeIdentity(folder)
  await writeFile(file, (await readFile(file, 'utf8')).replace('"version": 1', '"version": 2'))
  const error = await t.throwsAsync(openNodeIdentity(folder), { instanceOf: HearthError })
  t.is(error?.code, 'version')
})
