import test from 'ava'
import { digestOf, parseDigest } from './digest.ts'
import { HearthError } from './errors.ts'
import { formatIdentity, parseIdentity } from './identity.ts'
import { makeScope, parseScopeId, scopeId } from './scope.ts'

test('a digest is the sha256 of the bytes, named by its algorithm', (t) => {
  t.is(digestOf(''), 'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855')
  t.is(parseDigest(digestOf('x')), digestOf('x'))
})

for (const bad of ['', 'sha256:abc', `sha512:${'0'.repeat(64)}`, `sha256:${'A'.repeat(64)}`]) {
  test(`"${bad.slice(0, 20)}" is refused as a digest`, (t) => {
    const error = t.throws(() => parseDigest(bad), { instanceOf: HearthError })
    t.is(error?.code, 'invalid-input')
  })
}

test('a scope survives being written as its id', (t) => {
  const scope = makeScope('my-app', 'fork-12')
  t.deepEqual(parseScopeId(scopeId(scope)), scope)
})

for (const bad of ['', 'UPPER', '-x', 'x-', 'a/b', '..', 'a'.repeat(40)]) {
  test(`"${bad.slice(0, 10)}" is refused as a project name`, (t) => {
    t.throws(() => makeScope(bad, 'main'), { instanceOf: HearthError })
  })
}

test('an identity survives being written into a certificate', (t) => {
  const scope = makeScope('app', 'main')
  for (const identity of [
    { type: 'coordinator' },
    { type: 'node', nodeId: 'n1' },
    { type: 'client', scope, buildId: 'b1' },
    { type: 'client', scope, buildId: undefined },
  ] as const) {
    t.deepEqual(parseIdentity(formatIdentity(identity)), identity)
  }
})

test('a name that is no identity is refused', (t) => {
  for (const uri of ['https://x', 'hearth://', 'hearth://client/app', 'hearth://node/a/b']) {
    t.throws(() => parseIdentity(uri), { instanceOf: HearthError })
  }
})
