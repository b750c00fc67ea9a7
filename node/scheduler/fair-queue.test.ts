import test from 'ava'
import fc from 'fast-check'
import { serviceOrder } from './fair-queue.ts'

const project = fc.constantFrom('a', 'b', 'c', 'd')
const queue = fc
  .array(project, { maxLength: 40 })
  .map((projects) => projects.map((name, arrival) => ({ project: name, arrival })))
const record = fc
  .record({
    slotsInUse: fc.dictionary(project, fc.integer({ min: 0, max: 6 })),
    latest: fc.shuffledSubarray(['a', 'b', 'c', 'd']),
  })
  .map(({ slotsInUse, latest }) => ({
    slotsInUse: new Map(Object.entries(slotsInUse)),
    lastGrant: new Map(latest.map((name, index) => [name, index + 1])),
  }))

test('the whole order is what serving one after another gives', (t) => {
  fc.assert(
    fc.property(queue, record, (waiting, { slotsInUse, lastGrant }) => {
      const slots = new Map(slotsInUse)
      const latest = new Map(lastGrant)
      const left = [...waiting]
      let grants = 100
      for (const served of serviceOrder(waiting, { slotsInUse, lastGrant })) {
        const least = (
          value: (entry: (typeof left)[number]) => number,
          of: typeof left,
        ): typeof left => {
          const smallest = Math.min(...of.map(value))
          return of.filter((entry) => value(entry) === smallest)
        }
        const fewest = least((entry) => slots.get(entry.project) ?? 0, left)
        const [due] = least((entry) => latest.get(entry.project) ?? 0, fewest)
        if (served !== due) return false
        left.splice(left.indexOf(served), 1)
        slots.set(served.project, (slots.get(served.project) ?? 0) + 1)
        latest.set(served.project, ++grants)
      }
      return left.length === 0
    }),
  )
  t.pass()
})

test('inside a project arrival decides', (t) => {
  fc.assert(
    fc.property(queue, record, (waiting, served) => {
      const last = new Map<string, number>()
      return serviceOrder(waiting, served).every((entry) => {
        const inOrder = entry.arrival > (last.get(entry.project) ?? -1)
        last.set(entry.project, entry.arrival)
        return inOrder
      })
    }),
  )
  t.pass()
})

test('a project that floods the queue waits behind the others', (t) => {
  const waiting = ['a', 'a', 'a', 'b', 'c', 'b'].map((name) => ({ project: name }))
  const record = { slotsInUse: new Map([['a', 1]]), lastGrant: new Map([['a', 1]]) }
  const order = serviceOrder(waiting, record).map((entry) => entry.project)
  t.deepEqual(order, ['b', 'c', 'a', 'b', 'a', 'a'])
})

test('a single slot goes around', (t) => {
  const waiting = ['a', 'a', 'b'].map((name) => ({ project: name }))
  const record = { slotsInUse: new Map(), lastGrant: new Map([['a', 7]]) }
  t.deepEqual(
    serviceOrder(waiting, record).map((entry) => entry.project),
    ['b', 'a', 'a'],
  )
})
