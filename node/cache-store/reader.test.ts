import test from 'ava'
import fc from 'fast-check'
import { HearthError } from '../../core/errors.ts'
import { never, put, randomBlob, read, scope, temporaryStore } from './temporary-store.fixture.ts'

test('every range inside a blob gives exactly those bytes', async (t) => {
  const { store } = await temporaryStore(t)
  // Longer than one read, and no multiple of it.
  const { bytes, digest } = randomBlob(2_500_001)
  await put(store, scope, bytes)
  const offset = fc.nat({ max: bytes.length - 1 })
  await fc.assert(
    fc.asyncProperty(
      fc.tuple(offset, offset),
      fc.constantFrom('both', 'start', 'end'),
      async ([a, b], given) => {
        const start = given === 'end' ? 0 : Math.min(a, b)
        const end = given === 'start' ? bytes.length - 1 : Math.max(a, b)
        const got = await read(store, scope, digest, {
          ...(given === 'end' ? {} : { start }),
          ...(given === 'start' ? {} : { end }),
        })
        return got?.equals(bytes.subarray(start, end + 1)) === true
      },
    ),
    { numRuns: 100 },
  )
  t.pass()
})

test('every range that is not inside is refused, whatever its form', async (t) => {
  const { store } = await temporaryStore(t)
  const digest = await put(store, scope, randomBlob(1000).bytes)
  const empty = await put(store, scope, new Uint8Array())
  const bad = fc.oneof(
    fc.record({ start: fc.integer({ min: 1000 }) }),
    fc.record({ end: fc.integer({ min: 1000 }) }),
    fc.record({ start: fc.integer({ max: -1 }) }),
    fc.record({ end: fc.integer({ max: -1 }) }),
    fc.record({ start: fc.constantFrom(0.5, Number.NaN, 1e300) }),
    fc.record({ end: fc.constantFrom(0.5, Number.NaN, Number.POSITIVE_INFINITY) }),
    fc
      .tuple(fc.nat({ max: 998 }), fc.nat({ max: 998 }))
      .map(([a, b]) => ({ start: Math.max(a, b) + 1, end: Math.min(a, b) })),
  )
  await fc.assert(
    fc.asyncProperty(bad, async (range) => {
      const opening = store.open(scope, digest, { ...range, signal: never })
      const error = await opening.then(
        () => undefined,
        (reason: unknown) => reason,
      )
      return error instanceof HearthError && error.code === 'invalid-input'
    }),
  )
  for (const range of [{ start: 0, end: 0 }, { end: 0 }, { start: 1 }]) {
    const opening = store.open(scope, empty, { ...range, signal: never })
    t.is((await t.throwsAsync(opening, { instanceOf: HearthError }))?.code, 'invalid-input')
  }
})
