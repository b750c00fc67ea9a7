import test from 'ava'
import { createTapReader, describeTotals } from './tap.ts'

function read(...lines: string[]) {
  const reader = createTapReader()
  const shown = lines.map((line) => reader.line(line)).filter((line) => line !== undefined)
  return { shown, reader }
}

test('results are counted as ava reports them, the skipped ones apart', (t) => {
  const { shown, reader } = read(
    'TAP version 13',
    'ok 1 - core › a title - with a dash',
    'not ok 2 - it breaks',
    '  ---',
    "    message: 'really'",
    '  ...',
    'ok 3 - later # SKIP',
    '1..3',
    '# tests 3',
    '# pass 1',
    '# fail 1',
  )
  t.deepEqual(reader.totals(), { passed: 1, failed: 1, skipped: 1 })
  t.deepEqual(reader.failures(), [{ title: 'it breaks', details: ["    message: 'really'"] }])
  t.true(reader.complete())
  t.deepEqual(shown, [
    '✔ core › a title - with a dash',
    '✘ it breaks',
    "    message: 'really'",
    '- later (skip)',
  ])
})

test('a run without its closing plan is not complete', (t) => {
  const { reader } = read('TAP version 13', 'ok 1 - only one')
  t.false(reader.complete())
})

test('the closing line names the skipped only when there are some', (t) => {
  t.is(describeTotals({ passed: 12, failed: 0, skipped: 0 }), '12 passed, 0 failed')
  t.is(describeTotals({ passed: 1, failed: 2, skipped: 3 }), '1 passed, 2 failed, 3 skipped')
})
