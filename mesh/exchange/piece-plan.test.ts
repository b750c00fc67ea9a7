import test from 'ava'
import fc from 'fast-check'
import { createPiecePlan } from './piece-plan.ts'

test('pieces cover the blob, in order', (t) => {
  const plan = createPiecePlan(25, 10)
  t.deepEqual(plan.pieces, [
    { index: 0, start: 0, end: 10 },
    { index: 1, start: 10, end: 20 },
    { index: 2, start: 20, end: 25 },
  ])
  t.true(createPiecePlan(0, 10).isFinished)
})

test('the frontier moves past what is there without a gap', (t) => {
  const plan = createPiecePlan(30, 10)
  const [first, second, third] = [plan.take('a'), plan.take('b'), plan.take('c')]
  if (first === undefined || second === undefined || third === undefined) return t.fail()
  plan.finish(second)
  t.is(plan.frontier, 0)
  plan.finish(first)
  t.is(plan.frontier, 20)
  plan.finish(third)
  t.is(plan.frontier, 30)
  t.true(plan.isFinished)
})

test('a piece goes out again when its only source gives up, and a second time while it is busy', (t) => {
  const plan = createPiecePlan(10, 10)
  const piece = plan.take('a')
  if (piece === undefined) return t.fail()
  t.is(plan.take('b'), undefined)
  t.is(plan.takeAgain('a'), undefined)
  t.is(plan.takeAgain('b'), piece)
  t.is(plan.takeAgain('c'), undefined)
  plan.giveUp(piece, 'a')
  t.is(plan.waiting, 0)
  plan.giveUp(piece, 'b')
  t.is(plan.take('c'), piece)
})

test('whatever sources do, every piece is brought once one of them works', (t) => {
  const deeds = fc.array(fc.tuple(fc.constantFrom('a', 'b', 'c'), fc.boolean()), { maxLength: 60 })
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 200 }), deeds, (size, steps) => {
      const plan = createPiecePlan(size, 16)
      const done = new Set<number>()
      const work = (source: string, succeeds: boolean): boolean => {
        const piece = plan.take(source) ?? plan.takeAgain(source)
        if (piece === undefined) return false
        if (succeeds) {
          plan.finish(piece)
          done.add(piece.index)
        } else plan.giveUp(piece, source)
        return true
      }
      for (const [source, succeeds] of steps) work(source, succeeds)
      while (work('d', true)) t.pass()
      t.true(plan.isFinished)
      t.is(done.size, plan.pieces.length)
      t.is(plan.frontier, size)
    }),
    { numRuns: 50 },
  )
})
