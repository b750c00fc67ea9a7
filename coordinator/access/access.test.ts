import { generateKeyPairSync, X509Certificate } from 'node:crypto'
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { Metadata } from '@grpc/grpc-js'
import test from 'ava'
import { HearthError } from '../../core/errors.ts'
import { identityOfCertificate } from '../../core/identity.ts'
import { makeScope } from '../../core/scope.ts'
import { openState } from '../state/index.ts'
import {
  createTokens,
  openAuthority,
  readOperatorToken,
  requireCaller,
  requireNode,
  requireOperator,
  scopeOf,
  visibleProject,
} from './index.ts'

const minuteMs = 60_000
const history = { buildsMax: 5, ageMs: minuteMs, solvesPerBuildMax: 3 }

async function temporaryFolder() {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'hearth-access-'))
  return { folder, [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }) }
}

function makePublicKey(namedCurve = 'P-256'): Buffer {
  return generateKeyPairSync('ec', { namedCurve }).publicKey.export({ type: 'spki', format: 'der' })
}

test('a certificate speaks for its identity, from a little ago until the end of its life', async (t) => {
  await using temporary = await temporaryFolder()
  const authority = await openAuthority(temporary)
  const identity = { type: 'client', scope: makeScope('app', 'main'), buildId: 'b1' } as const
  const publicKey = makePublicKey()
  const before = Date.now()
  const issued = await authority.issue(identity, publicKey, 10 * minuteMs)
  const certificate = new X509Certificate(issued.certificatePem)
  t.true(certificate.verify(new X509Certificate(authority.caPem).publicKey))
  t.true(certificate.checkIssued(new X509Certificate(authority.caPem)))
  t.deepEqual(identityOfCertificate(certificate.subjectAltName), identity)
  t.deepEqual(certificate.publicKey.export({ type: 'spki', format: 'der' }), publicKey)
  t.true(Date.parse(certificate.validFrom) <= before - 4 * minuteMs)
  t.true(Math.abs(Date.parse(certificate.validTo) - before - 10 * minuteMs) < 5_000)
  t.deepEqual(certificate.keyUsage, ['1.3.6.1.5.5.7.3.2'], 'clients may not pose as servers')
  t.false(certificate.ca)
})

test('a node has its own server name and the coordinator its own', async (t) => {
  await using temporary = await temporaryFolder()
  const authority = await openAuthority(temporary)
  const node = await authority.issue({ type: 'node', nodeId: 'n1' }, makePublicKey(), minuteMs)
  t.truthy(new X509Certificate(node.certificatePem).checkHost('n1.node.hearth.internal'))
  const own = await authority.issueOwn()
  t.truthy(new X509Certificate(own.certificatePem).checkHost('coordinator.hearth.internal'))
})

test('the authority is the same after opening again, and its key is for its owner alone', async (t) => {
  await using temporary = await temporaryFolder()
  const file = path.join(temporary.folder, 'authority', 'authority.pem')
  const first = await openAuthority(temporary)
  t.is((await stat(file)).mode & 0o777, 0o600)
  await chmod(file, 0o644)
  const second = await openAuthority(temporary)
  t.is((await stat(file)).mode & 0o777, 0o600)
  t.is(first.caPem, second.caPem)
  const issued = await second.issue({ type: 'node', nodeId: 'n1' }, makePublicKey(), minuteMs)
  const ca = new X509Certificate(first.caPem)
  t.true(new X509Certificate(issued.certificatePem).verify(ca.publicKey))
  const copy = await readFile(path.join(temporary.folder, 'authority', 'ca.pem'), 'utf8')
  t.is(copy.trim(), first.caPem.trim())
  t.false(copy.includes('PRIVATE'))
})

test('an authority file that holds something else is refused and left alone', async (t) => {
  await using temporary = await temporaryFolder()
  const file = path.join(temporary.folder, 'authority', 'authority.pem')
  await openAuthority(temporary)
  for (const content of ['', 'nonsense', (await openAuthority(temporary)).caPem]) {
    await writeFile(file, content)
    const error = await t.throwsAsync(openAuthority(temporary), { instanceOf: HearthError })
    t.is(error?.code, 'corrupt')
    t.is(await readFile(file, 'utf8'), content)
  }
})

const otherKeys: readonly [string, () => Uint8Array][] = [
  ['of another curve', () => makePublicKey('P-384')],
  [
    'of another kind',
    () =>
      generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey.export({
        type: 'spki',
        format: 'der',
      }),
  ],
  ['that is none', () => Buffer.from('hello')],
  ['that is missing', () => Buffer.alloc(0)],
]
for (const [kind, make] of otherKeys) {
  test(`a key ${kind} gets no certificate`, async (t) => {
    await using temporary = await temporaryFolder()
    const authority = await openAuthority(temporary)
    const error = await t.throwsAsync(
      authority.issue({ type: 'node', nodeId: 'n1' }, make(), minuteMs),
      { instanceOf: HearthError },
    )
    t.is(error?.code, 'invalid-input')
  })
}

test('a token is known by its hash alone, and no longer once it is revoked', async (t) => {
  await using temporary = await temporaryFolder()
  await using state = openState({ ...temporary, history })
  const tokens = createTokens({ state })
  const { id, token } = tokens.createProject(makeScope('app', 'fork-1'), 'for CI')
  t.regex(token, /^hth_[a-z2-7]{8}_[a-z2-7]{52}$/)
  const scope = makeScope('app', 'fork-1')
  t.deepEqual(tokens.verify(token), { type: 'project', tokenId: id, scope })
  const data = await readFile(path.join(temporary.folder, 'state', 'data.mdb'), 'latin1')
  t.false(data.includes(token.split('_')[2] ?? token))
  tokens.revoke(id)
  t.throws(() => tokens.verify(token), { instanceOf: HearthError })
  t.is(t.throws(() => tokens.revoke(id), { instanceOf: HearthError })?.code, 'not-found')
})

test('a wrong token is refused with what to do, whichever part is wrong', async (t) => {
  await using temporary = await temporaryFolder()
  await using state = openState({ ...temporary, history })
  const tokens = createTokens({ state })
  const { token } = tokens.createOperator('')
  const [prefix = '', id = '', secret = ''] = token.split('_')
  const otherSecret = `${secret.slice(1)}${secret.startsWith('a') ? 'b' : 'a'}`
  for (const wrong of [
    '',
    'hth',
    'x'.repeat(10_000),
    `${prefix}_aaaaaaaa_${secret}`,
    `${prefix}_${id}_${otherSecret}`,
    `${prefix}_${id}_${secret.slice(1)}`,
    `${token}\n`,
  ]) {
    const error = t.throws(() => tokens.verify(wrong), { instanceOf: HearthError })
    t.is(error?.code, 'unauthenticated')
    t.truthy(error?.hint)
  }
})

test('a join token lets one node in, once, for an hour', async (t) => {
  await using temporary = await temporaryFolder()
  await using state = openState({ ...temporary, history })
  let now = 1_000
  const tokens = createTokens({ state }, { now: () => now })
  const refused = (token: string, key: string, reason: RegExp) => {
    const error = t.throws(() => tokens.spendJoin(token, key, () => 'n2'), {
      instanceOf: HearthError,
    })
    t.is(error?.code, 'unauthenticated')
    t.regex(error?.message ?? '', reason)
  }
  const { token } = tokens.createJoin()
  t.is(
    tokens.spendJoin(token, 'key one', () => 'n1'),
    'n1',
  )
  t.is(
    tokens.spendJoin(token, 'key one', () => 'n2'),
    'n1',
    'its first answer may have been lost',
  )
  refused(token, 'key two', /has been used/)
  const late = tokens.createJoin().token
  now += 61 * minuteMs
  refused(late, 'key one', /has expired/)
  refused(tokens.createOperator('').token, 'key one', /not valid/)
  tokens.prune()
  refused(late, 'key one', /not valid/)
  t.throws(() => tokens.verify(token), { instanceOf: HearthError })
})

test("the operator's token of this machine stays the same until it is revoked or deleted", async (t) => {
  await using temporary = await temporaryFolder()
  await using state = openState({ ...temporary, history })
  const tokens = createTokens({ state })
  const file = path.join(temporary.folder, 'operator-token')
  const first = await readOperatorToken({ tokens }, temporary.folder)
  t.is((await stat(file)).mode & 0o777, 0o600)
  t.is(await readOperatorToken({ tokens }, temporary.folder), first)
  tokens.revoke(tokens.verify(first).tokenId)
  const second = await readOperatorToken({ tokens }, temporary.folder)
  t.not(second, first)
  t.is(tokens.verify(second).type, 'operator')
  await rm(file)
  t.not(await readOperatorToken({ tokens }, temporary.folder), second)
})

test('the line comes from the token, and a project sees its own things only', async (t) => {
  await using temporary = await temporaryFolder()
  await using state = openState({ ...temporary, history })
  const tokens = createTokens({ state })
  const metadata = (token: string) => {
    const sent = new Metadata()
    sent.set('authorization', `Bearer ${token}`)
    return sent
  }
  const operator = requireCaller(tokens, metadata(tokens.createOperator('').token))
  const fork = requireCaller(
    tokens,
    metadata(tokens.createProject(makeScope('app', 'fork-1'), '').token),
  )
  const codeOf = (run: () => unknown) => t.throws(run, { instanceOf: HearthError })?.code
  t.deepEqual(scopeOf(operator, 'any'), makeScope('any', 'main'))
  t.deepEqual(scopeOf(fork, 'app'), makeScope('app', 'fork-1'))
  t.deepEqual(scopeOf(fork, ''), makeScope('app', 'fork-1'))
  t.is(
    codeOf(() => scopeOf(fork, 'other')),
    'forbidden',
  )
  t.is(
    codeOf(() => scopeOf(operator, '')),
    'invalid-input',
  )
  t.is(
    codeOf(() => scopeOf(operator, '../x')),
    'invalid-input',
  )
  t.is(visibleProject(operator, ''), undefined)
  t.is(visibleProject(fork, ''), 'app')
  t.is(
    codeOf(() => visibleProject(fork, 'other')),
    'forbidden',
  )
  t.notThrows(() => requireOperator(operator))
  t.is(
    codeOf(() => requireOperator(fork)),
    'forbidden',
  )
  t.is(
    codeOf(() => requireCaller(tokens, new Metadata())),
    'unauthenticated',
  )
})

test("a node acts with its own certificate, not with another node's or a client's", (t) => {
  const codeOf = (identity: Parameters<typeof requireNode>[0]) =>
    t.throws(() => requireNode(identity, 'n1'), { instanceOf: HearthError })?.code
  t.is(requireNode({ type: 'node', nodeId: 'n1' }, 'n1'), 'n1')
  t.is(codeOf({ type: 'node', nodeId: 'n2' }), 'forbidden')
  t.is(codeOf(undefined), 'unauthenticated')
  t.is(codeOf({ type: 'coordinator' }), 'unauthenticated')
  t.is(
    codeOf({ type: 'client', scope: makeScope('app', 'main'), buildId: 'n1' }),
    'unauthenticated',
  )
})
