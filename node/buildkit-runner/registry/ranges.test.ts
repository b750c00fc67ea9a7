import test from 'ava'
import fc from 'fast-check'
import { matchesTag, parseContentRange, parseRange } from './ranges.ts'

const sizes = fc.nat({ max: 5000 })

test('a range with both ends gives exactly the bytes between them that exist', (t) => {
  fc.assert(
    fc.property(sizes, fc.nat(6000), fc.nat(6000), (size, a, b) => {
      const [first, last] = a <= b ? [a, b] : [b, a]
      const answer = parseRange(`bytes=${first}-${last}`, size)
      if (first >= size) return answer.type === 'unsatisfiable'
      if (answer.type !== 'part') return false
      return answer.range.start === first && answer.range.end === Math.min(last, size - 1)
    }),
  )
  t.pass()
})

test('a range never leaves the body, whatever the header says', (t) => {
  const header = fc.oneof(
    fc.string(),
    fc.string().map((text) => `bytes=${text}`),
    fc.tuple(fc.maxSafeNat(), fc.maxSafeNat()).map(([a, b]) => `bytes=${a}-${b}`),
    fc.maxSafeNat().map((count) => `bytes=-${count}`),
    fc.maxSafeNat().map((count) => `bytes=${count}-`),
  )
  fc.assert(
    fc.property(sizes, header, (size, text) => {
      const answer = parseRange(text, size)
      if (answer.type !== 'part') return true
      const { start, end } = answer.range
      return 0 <= start && start <= end && end < size
    }),
  )
  t.pass()
})

test('a suffix range counts from the end', (t) => {
  t.deepEqual(parseRange('bytes=-3', 10), { type: 'part', range: { start: 7, end: 9 } })
  t.deepEqual(parseRange('bytes=-30', 10), { type: 'part', range: { start: 0, end: 9 } })
  t.deepEqual(parseRange('bytes=-0', 10), { type: 'unsatisfiable' })
  t.deepEqual(parseRange('bytes=-1', 0), { type: 'unsatisfiable' })
})

for (const header of ['', 'bytes=', 'bytes=-', 'bytes=5-2', 'bytes=0-1,3-4', 'lines=0-1', '0-1']) {
  test(`"${header}" asks for the whole body`, (t) => {
    t.deepEqual(parseRange(header, 10), { type: 'whole' })
  })
}

test('a chunk says where it belongs, with or without a unit', (t) => {
  t.deepEqual(parseContentRange('0-9'), { start: 0, end: 9 })
  t.deepEqual(parseContentRange('bytes 10-19/*'), { start: 10, end: 19 })
  for (const bad of ['', '9-0', 'a-b', '-5', '5-', '1-2-3']) t.is(parseContentRange(bad), undefined)
})

test('a tag matches in a list, weakly, and by star', (t) => {
  t.true(matchesTag('"a", W/"b"', '"b"'))
  t.true(matchesTag('*', '"b"'))
  t.false(matchesTag('"a"', '"b"'))
  t.false(matchesTag(undefined, '"b"'))
})
