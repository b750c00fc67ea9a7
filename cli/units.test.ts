import test from 'ava'
import { type Build, BuildOutcome } from '../proto/generated/hearth/v1/build.ts'
import { formatSummary } from './build/summary.ts'
import { formatTable } from './table.ts'
import { formatAge, formatBytes, formatDuration, formatOrdinal } from './units.ts'

test('durations are short', (t) => {
  const given = [0, 42, 1234, 59_900, 59_960, 65_000, 3_599_600, 7_620_000]
  t.deepEqual(given.map(formatDuration), [
    ...['0.00s', '0.04s', '1.2s', '59.9s', '1m 00s', '1m 05s', '1h 00m', '2h 07m'],
  ])
})

test('bytes have decimal units', (t) => {
  const given = [0, 999, 1000, 12_345, 999_600, 3_400_000, 123_456_789, 1.25e9, 5e15]
  t.deepEqual(given.map(formatBytes), [
    ...['0 B', '999 B', '1 kB', '12 kB', '1.0 MB', '3.4 MB', '123 MB', '1.3 GB', '5000 TB'],
  ])
})

test('ages and places in a queue read as people say them', (t) => {
  const now = new Date('2026-01-10T12:00:00Z')
  const ago = (minutes: number) => formatAge(new Date(now.getTime() - minutes * 60_000), now)
  t.deepEqual([0, 5, 200, 60 * 24 * 4].map(ago), ['just now', '5 min ago', '3 h ago', '4 d ago'])
  t.is(formatAge(undefined, now), '-')
  t.deepEqual([1, 2, 3, 4, 11, 12, 21, 112].map(formatOrdinal), [
    ...['1st', '2nd', '3rd', '4th', '11th', '12th', '21st', '112th'],
  ])
})

test('columns are aligned and lines end without blanks', (t) => {
  const rows = [
    { name: 'a', size: 5 },
    { name: 'longer', size: 1234 },
  ]
  const lines = formatTable(
    [
      { title: 'SIZE', value: (row) => `${row.size}`, align: 'right' },
      { title: 'NAME', value: (row) => row.name },
    ],
    rows,
  )
  t.deepEqual(lines, ['SIZE  NAME', '   5  a', '1234  longer'])
})

const build: Build = {
  id: 'b7k2',
  scope: { project: 'app', line: 'main' },
  openedAt: undefined,
  finishedAt: undefined,
  outcome: BuildOutcome.BUILD_OUTCOME_SUCCEEDED,
  command: 'build .',
  nodeIds: ['n1'],
  solves: [],
  stepsReused: 12,
  stepsTotal: 14,
  savedMs: 45_100,
  durationMs: 3400,
  failure: undefined,
  decisions: [],
}

test('a summary says time, steps reused, time saved, and where to look', (t) => {
  t.deepEqual(formatSummary('succeeded', 3400, build), [
    'hearth: built in 3.4s, 12 of 14 steps reused, 45.1s saved',
    'hearth: more with "hearth build-info b7k2"',
  ])
})

test('a summary leaves out what is not known', (t) => {
  t.deepEqual(formatSummary('failed', 3400, undefined), ['hearth: failed after 3.4s'])
  t.deepEqual(formatSummary('cancelled', 90, { ...build, stepsTotal: 0, stepsReused: 0 }), [
    'hearth: cancelled after 0.09s',
    'hearth: more with "hearth build-info b7k2"',
  ])
  t.is(
    formatSummary('succeeded', 900, { ...build, savedMs: 0 })[0],
    'hearth: built in 0.9s, 12 of 14 steps reused',
  )
})
