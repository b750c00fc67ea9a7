import test from 'ava'
import { readCommandLine } from './command-line.ts'
import { rotated } from './rotation.ts'

const names = ['hot-overhead', 'export-wait']

test('a name, runs and the form of the answer are read in any order', (t) => {
  t.deepEqual(readCommandLine(['--json', 'export-wait', '--runs', '4'], names), {
    name: 'export-wait',
    json: true,
    runs: 4,
    workload: undefined,
  })
  t.deepEqual(readCommandLine(['--runs=1', '--workload=few-steps'], names), {
    name: undefined,
    json: false,
    runs: 1,
    workload: 'few-steps',
  })
})

const refused = test.macro<[args: string[], says: RegExp]>({
  exec(t, args, says) {
    t.throws(() => readCommandLine(args, names), { message: says })
  },
  title: (_, args) => `"bench ${args.join(' ')}" is refused`,
})

test(refused, ['export-weight'], /no measurement is called "export-weight"/)
test(refused, ['hot-overhead', 'export-wait'], /one measurement at a time/)
test(refused, ['--fast'], /unknown flag --fast/)
test(refused, ['--runs', '0'], /needs a whole number/)
test(refused, ['--workload'], /--workload needs a name/)
test(refused, ['--runs'], /needs a whole number/)

test('every contestant goes first once before one goes first twice', (t) => {
  const contestants = ['a', 'b', 'c']
  const first = [0, 1, 2, 3].map((run) => rotated(contestants, run)[0])
  t.deepEqual(first, ['a', 'b', 'c', 'a'])
  t.deepEqual([...rotated(contestants, 2)].sort(), contestants)
})
