import test from 'ava'
import fc from 'fast-check'
import type { Digest } from '../../core/digest.ts'
import { makeScope } from '../../core/scope.ts'
import type { EvictionPolicy, Pin } from './index.ts'
import {
  fork,
  never,
  put,
  randomBlob,
  read,
  scope,
  stranger,
  temporaryFolder,
  temporaryStore,
} from './temporary-store.fixture.ts'

const dayMs = 86_400_000
const unlimited: EvictionPolicy = {
  bytesMax: Number.POSITIVE_INFINITY,
  daysMax: Number.POSITIVE_INFINITY,
}

const action = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({ do: fc.constant('write'), size: fc.integer({ min: 1, max: 5000 }) }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('read'), which: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('pin'), which: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('unpin'), which: fc.nat() }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('wait'), days: fc.integer({ min: 1, max: 3 }) }),
  },
)

test('eviction keeps the limits, takes the least recently used first, and never what is pinned', async (t) => {
  let now = 1_000_000
  const { store } = await temporaryStore(t, { clock: () => now, defaultPolicy: unlimited })
  let run = 0
  const property = fc.asyncProperty(
    fc.array(action, { minLength: 1, maxLength: 20 }),
    fc.integer({ min: 0, max: 20_000 }),
    fc.integer({ min: 0, max: 5 }),
    async (actions, bytesMax, daysMax) => {
      // One store for all runs; a project of its own for each.
      const owner = makeScope(`p${run++}`, 'main')
      const blobs: { digest: Digest; size: number; usedAtMs: number; pin?: Pin }[] = []
      const at = (which: number) => blobs[which % Math.max(1, blobs.length)]
      store.setPolicies(new Map([[owner.project, unlimited]]))
      for (const step of actions) {
        now += 10
        if ('days' in step) now += step.days * dayMs
        else if ('size' in step) {
          const digest = await put(store, owner, randomBlob(step.size).bytes)
          blobs.push({ digest, size: step.size, usedAtMs: now })
        } else {
          const blob = at(step.which)
          if (blob === undefined) continue
          if (step.do === 'read') await read(store, owner, blob.digest)
          else if (step.do === 'pin') blob.pin ??= store.pin(owner, [blob.digest])
          else if (blob.pin === undefined) continue
          else {
            blob.pin[Symbol.dispose]()
            delete blob.pin
          }
          blob.usedAtMs = now
        }
      }
      store.setPolicies(new Map([[owner.project, { bytesMax, daysMax }]]))
      await store.evict()

      const left = blobs.filter(({ digest }) => store.stat(owner, digest) !== undefined)
      const loose = left.filter(({ pin }) => pin === undefined)
      const gone = blobs.filter((blob) => !left.includes(blob))
      const total = left.reduce((sum, { size }) => sum + size, 0)
      const oldestMs = now - daysMax * dayMs

      t.true(
        gone.every(({ pin }) => pin === undefined),
        'a pinned blob went',
      )
      t.true(total <= bytesMax || loose.length === 0, 'over the limit')
      t.true(
        loose.every(({ usedAtMs }) => usedAtMs >= oldestMs),
        'too old',
      )
      const lastGoneMs = Math.max(0, ...gone.map(({ usedAtMs }) => usedAtMs))
      t.true(
        loose.every(({ usedAtMs }) => usedAtMs > lastGoneMs),
        'not the least recently used',
      )
      const expired = gone.filter(({ usedAtMs }) => usedAtMs < oldestMs)
      const needed = gone
        .filter((blob) => !expired.includes(blob))
        .sort((a, b) => b.usedAtMs - a.usedAtMs)
      t.true(
        needed.length === 0 || total + (needed[0]?.size ?? 0) > bytesMax,
        'more went than had to',
      )
      const usage = store.usage().scopes.get(`${owner.project}/main`)
      t.is(usage?.bytes ?? 0, total)
      for (const { pin } of blobs) pin?.[Symbol.dispose]()
      await store.reset(owner)
    },
  )
  await fc.assert(property, { numRuns: 25 })
})

test('writing over the limit evicts by itself, from that project alone', async (t) => {
  const { store } = await temporaryStore(t)
  store.setPolicies(new Map([['app', { bytesMax: 2500, daysMax: 1 }]]))
  const others = await put(store, stranger, randomBlob(5000).bytes)
  for (let i = 0; i < 5; i++) await put(store, scope, randomBlob(1000).bytes)
  await store.evict()
  t.is(store.usage().scopes.get('app/main')?.bytes, 2000)
  t.truthy(store.stat(stranger, others))
})

test('a blob that several scopes own leaves them one by one, and the disk with the last', async (t) => {
  let now = 0
  const { store } = await temporaryStore(t, { clock: () => now, defaultPolicy: unlimited })
  const { bytes, digest } = randomBlob(1000)
  await put(store, scope, bytes)
  now = 100
  await store.share(scope, fork, digest)
  await store.share(scope, stranger, digest)
  t.is(store.usage().bytes, 1000)

  now = dayMs + 50
  store.setPolicies(new Map([['app', { bytesMax: 1000, daysMax: 1 }]]))
  t.deepEqual(await store.evict(), { blobs: 0, bytesFreed: 0 })
  t.is(store.stat(scope, digest), undefined)
  t.truthy(store.stat(fork, digest))

  store.setPolicies(new Map([['app', { bytesMax: 999, daysMax: 9 }]]))
  t.deepEqual(await store.evict(), { blobs: 0, bytesFreed: 0 })
  t.is(store.stat(fork, digest), undefined)
  t.truthy(store.stat(stranger, digest))

  store.setPolicies(new Map([['other', { bytesMax: 0, daysMax: 9 }]]))
  // It may have gone already, by the eviction that new policies start.
  await store.evict()
  t.is(store.stat(stranger, digest), undefined)
  t.is(store.usage().blobs, 0)
})

test('a blob that two lines share counts once against the limit of their project', async (t) => {
  const { store } = await temporaryStore(t)
  store.setPolicies(new Map([['app', { bytesMax: 1500, daysMax: 1 }]]))
  const digest = await put(store, scope, randomBlob(1000).bytes)
  await store.share(scope, fork, digest)
  t.deepEqual(await store.evict(), { blobs: 0, bytesFreed: 0 })
  t.truthy(store.stat(scope, digest))
  t.truthy(store.stat(fork, digest))
})

test('the limit is reached although a shared blob frees nothing until its last line of the project goes', async (t) => {
  let now = 0
  const { store } = await temporaryStore(t, { clock: () => now, defaultPolicy: unlimited })
  const shared = await put(store, scope, randomBlob(1000).bytes)
  const lines = Array.from({ length: 6 }, (_, i) => makeScope('app', `fork-${i}`))
  for (const line of [...lines, stranger]) await store.share(scope, line, shared)
  now = 10
  const young = [
    await put(store, scope, randomBlob(1000).bytes),
    await put(store, scope, randomBlob(1000).bytes),
  ]
  store.setPolicies(new Map([['app', { bytesMax: 2000, daysMax: 9 }]]))
  await store.evict()
  for (const line of [scope, ...lines]) t.is(store.stat(line, shared), undefined)
  t.truthy(store.stat(stranger, shared))
  for (const digest of young) t.truthy(store.stat(scope, digest))
})

test('uses and policies are remembered across a restart', async (t) => {
  let now = 0
  const folder = await temporaryFolder(t)
  const options = { folder, clock: () => now, defaultPolicy: { bytesMax: 0, daysMax: 0 } }
  const first = await temporaryStore(t, options)
  first.store.setPolicies(new Map([['app', unlimited]]))
  const old = await put(first.store, scope, randomBlob(1000).bytes)
  now = 10
  const young = await put(first.store, scope, randomBlob(1000).bytes)
  now = 20
  const stream = await first.store.open(scope, old, { signal: never })
  await stream?.toArray()
  await first.store[Symbol.asyncDispose]()

  const { store } = await temporaryStore(t, options)
  t.deepEqual(await store.evict(), { blobs: 0, bytesFreed: 0 })
  store.setPolicies(new Map([['app', { bytesMax: 1000, daysMax: 1 }]]))
  await store.evict()
  t.is(store.stat(scope, young), undefined)
  t.truthy(store.stat(scope, old))
})

test('age is looked at from time to time even if nothing is written', async (t) => {
  let now = 0
  const { store } = await temporaryStore(t, {
    clock: () => now,
    evictionEveryMs: 20,
    defaultPolicy: { bytesMax: 1e9, daysMax: 1 },
  })
  const digest = await put(store, scope, randomBlob(10).bytes)
  now = 2 * dayMs
  const deadline = AbortSignal.timeout(20_000)
  while (store.stat(scope, digest) !== undefined && !deadline.aborted) {
    await new Promise((resolve) => setImmediate(resolve))
  }
  t.is(store.stat(scope, digest), undefined)
})

test('what side lines make does not push out what the main line has, nor shrink it below three quarters', async (t) => {
  let now = 1_000_000
  const policy = { bytesMax: 100_000, daysMax: Number.POSITIVE_INFINITY }
  const { store } = await temporaryStore(t, { clock: () => now++, defaultPolicy: policy })
  const main: Digest[] = []
  for (let made = 0; made < 7; made++) main.push(await put(store, scope, randomBlob(10_000).bytes))
  for (let made = 0; made < 30; made++) await put(store, fork, randomBlob(5_000).bytes)
  await store.evict()
  t.true(main.every((digest) => store.stat(scope, digest) !== undefined))
  t.is(store.projectBytes('app'), 100_000)
  t.is(store.usage().scopes.get('app/fork-1')?.bytes, 30_000)
  // Beyond the side lines' quarter, age decides.
  for (let made = 0; made < 4; made++) await put(store, scope, randomBlob(10_000).bytes)
  await store.evict()
  t.is(store.usage().scopes.get('app/fork-1')?.bytes, 25_000)
  t.is(store.usage().scopes.get('app/main')?.bytes, 70_000)
  t.is(store.stat(scope, main[0] as Digest), undefined)
})

test('a blob that the main line shares with a fork is not the fork’s to lose', async (t) => {
  const policy = { bytesMax: 30_000, daysMax: Number.POSITIVE_INFINITY }
  let now = 1_000_000
  const { store } = await temporaryStore(t, { clock: () => now++, defaultPolicy: policy })
  const shared = await put(store, scope, randomBlob(20_000).bytes)
  await store.share(scope, fork, shared)
  await put(store, fork, randomBlob(10_000).bytes)
  await put(store, fork, randomBlob(10_000).bytes)
  await store.evict()
  t.truthy(store.stat(scope, shared))
  t.true(store.projectBytes('app') <= 30_000)
})

test('a project’s room is narrower than its policy for as long as it is told so', async (t) => {
  const { store } = await temporaryStore(t, { defaultPolicy: unlimited })
  for (let made = 0; made < 4; made++) await put(store, scope, randomBlob(10_000).bytes)
  store.setRoom('app', 20_000)
  await store.evict()
  t.is(store.projectBytes('app'), 20_000)
  store.setRoom('app', Number.POSITIVE_INFINITY)
  for (let made = 0; made < 4; made++) await put(store, scope, randomBlob(10_000).bytes)
  t.is((await store.evict()).blobs, 0)
})

test('when the disk fills up, the oldest go first, whichever project’s they are, and pinned ones stay', async (t) => {
  let now = 1_000_000
  const { store } = await temporaryStore(t, {
    clock: () => (now += 1_000),
    defaultPolicy: unlimited,
  })
  const pinned = await put(store, scope, randomBlob(10_000).bytes)
  using _pin = store.pin(scope, [pinned])
  const old: Digest[] = []
  for (let made = 0; made < 8; made++) {
    old.push(await put(store, made % 2 ? scope : stranger, randomBlob(10_000).bytes))
  }
  const young: Digest[] = []
  for (let made = 0; made < 40; made++) {
    young.push(await put(store, made % 2 ? scope : stranger, randomBlob(10_000).bytes))
  }
  const { bytesFreed } = await store.evictOldest(75_000)
  t.true(bytesFreed >= 75_000)
  t.true(old.every((digest) => !store.stat(scope, digest) && !store.stat(stranger, digest)))
  t.true(
    young.slice(10).every((digest) => store.stat(scope, digest) ?? store.stat(stranger, digest)),
  )
  await store.evictOldest(Number.POSITIVE_INFINITY)
  t.deepEqual([store.usage().blobs, store.stat(scope, pinned)?.size], [1, 10_000])
})

test('what is only on offer is not used, but once a day', async (t) => {
  let now = 1_000_000 * dayMs
  const policy = { bytesMax: 20_000, daysMax: 3 }
  const { store } = await temporaryStore(t, { clock: () => now, defaultPolicy: policy })
  const offered = await put(store, scope, randomBlob(10_000).bytes)
  now += 1_000
  const taken = await put(store, scope, randomBlob(10_000).bytes)
  now += 1_000
  store.pin(scope, [offered, taken], { isUse: false })[Symbol.dispose]()
  await put(store, scope, randomBlob(5_000).bytes)
  await store.evict()
  t.deepEqual([store.stat(scope, offered), store.stat(scope, taken)?.size], [undefined, 10_000])
  for (let days = 0; days < 5; days++) {
    now += dayMs + 1
    store.pin(scope, [taken], { isUse: false })[Symbol.dispose]()
  }
  await store.evict()
  t.truthy(store.stat(scope, taken))
})

test('what has just been written is there for whoever wrote it to pin, however full the project is', async (t) => {
  const { store } = await temporaryStore(t, { defaultPolicy: { bytesMax: 1, daysMax: 30 } })
  const { bytes, digest } = randomBlob(10_000)
  let pin: Pin
  {
    await using writer = await store.createWriter(scope)
    await writer.write(bytes)
    await writer.commit(digest)
    await store.evict()
    pin = store.pin(scope, [digest])
    t.is(pin.held.size, 1)
  }
  await store.evict()
  t.truthy(store.stat(scope, digest))
  pin[Symbol.dispose]()
  await store.evict()
  t.is(store.stat(scope, digest), undefined)
})
