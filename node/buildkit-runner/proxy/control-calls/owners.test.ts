import test from 'ava'
import { createOwners } from './owners.ts'

const signal = AbortSignal.timeout(60_000)

test('a reference and a session belong to whoever names them first', (t) => {
  const owners = createOwners()
  using first = owners.enter('a')
  using second = owners.enter('b')
  t.true(first.claimRef('ref'))
  t.true(first.claimRef('ref'))
  t.false(second.claimRef('ref'))
  t.true(first.ownsRef('ref'))
  t.false(second.ownsRef('ref'))
  t.true(first.claimSession('session'))
  t.false(second.claimSession('session'))
})

test('a session is known under every name by which BuildKit finds it', (t) => {
  const owners = createOwners()
  using first = owners.enter('a')
  using second = owners.enter('b')
  t.true(first.claimSession('session'))
  t.false(second.claimSession('prefix:session'))
  t.false(second.claimSession('two:prefixes:session'))
})

test('all connections of an owner have the same', (t) => {
  const owners = createOwners()
  using first = owners.enter('a')
  using second = owners.enter('a')
  first.claimRef('ref')
  first.allowContent('sha256:x')
  t.true(second.ownsRef('ref'))
  t.true(second.mayRead('sha256:x'))
})

test('a session ends with the last connection of its owner; references are remembered for a day', (t) => {
  let now = 0
  const owners = createOwners(() => now)
  const first = owners.enter('a')
  const again = owners.enter('a')
  using second = owners.enter('b')
  first.claimRef('ref')
  first.claimSession('session')
  first[Symbol.dispose]()
  first[Symbol.dispose]()
  t.false(second.claimSession('session'))
  again[Symbol.dispose]()
  t.true(second.claimSession('session'))
  now += 23 * 60 * 60_000
  owners.enter('c')[Symbol.dispose]()
  t.false(second.claimRef('ref'))
  now += 2 * 60 * 60_000
  owners.enter('c')[Symbol.dispose]()
  t.true(second.claimRef('ref'))
})

test('a call that overtook its solve waits for it', async (t) => {
  const owners = createOwners()
  using owner = owners.enter('a')
  const waiting = owner.awaitRef('error', { signal })
  owner.claimRef('error')
  t.true(await waiting)
})

test("a call about somebody else's solve does not wait", async (t) => {
  const owners = createOwners()
  using first = owners.enter('a')
  using second = owners.enter('b')
  first.claimRef('ref')
  const before = performance.now()
  t.false(await second.awaitRef('ref', { signal }))
  t.true(performance.now() - before < 1_000)
})

test('a call that nobody waits for any more is not known', async (t) => {
  const owners = createOwners()
  using owner = owners.enter('a')
  t.false(await owner.awaitRef('ref', { signal: AbortSignal.abort() }))
})
