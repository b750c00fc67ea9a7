import test from 'ava'
import fc from 'fast-check'
import { HearthError } from '../../core/errors.ts'
import type { BuildxVerb } from './buildx-flags.ts'
import { isOn, readCommandLine, valuesOf } from './command-line.ts'
import { historyCommand } from './history-command.ts'

test('buildx’s flags pass through unchanged and in order', (t) => {
  const args = ['-t', 'app:dev', '--build-arg=A=--project', '--secret', 'id=x', '-qf', 'D', '.']
  t.deepEqual(readCommandLine('build', args).passed, args)
})

test('Hearth’s own flags are taken out wherever they stand', (t) => {
  const line = readCommandLine('build', [
    ...['--project', 'app', '-t', 'x', '--json', '.', '--data=/d', '--load'],
  ])
  t.deepEqual(line.passed, ['-t', 'x', '.', '--load'])
  t.deepEqual(line.own, { project: 'app', data: '/d' })
  t.true(line.json)
})

test('what is the value of a flag is never taken for a flag or for the context', (t) => {
  const line = readCommandLine('build', [
    '--build-arg',
    '--project',
    '-t',
    '--json',
    '--label',
    '.',
    'ctx',
  ])
  t.deepEqual(line.own, {})
  t.false(line.json)
  t.deepEqual(line.operands, ['ctx'])
})

test('what follows two dashes is left alone', (t) => {
  const line = readCommandLine('bake', ['--json', '--', '--json', '--project'])
  t.deepEqual(line.passed, ['--', '--json', '--project'])
  t.deepEqual(line.operands, ['--json', '--project'])
})

test('the context is found after switches and before flags', (t) => {
  t.deepEqual(readCommandLine('build', ['--load', '.', '-t', 'a']).operands, ['.'])
  t.deepEqual(readCommandLine('build', ['-t', 'a', '--no-cache', '-']).operands, ['-'])
  t.deepEqual(readCommandLine('build', ['-qt', 'a', 'ctx']).operands, ['ctx'])
  t.deepEqual(readCommandLine('build', ['-ta', 'ctx']).operands, ['ctx'])
  t.deepEqual(readCommandLine('bake', ['--print', 'one', '-f', 'x.hcl', 'two']).operands, [
    'one',
    'two',
  ])
})

test('values of a flag are found in every form', (t) => {
  const line = readCommandLine('build', ['-f', 'a', '--file=b', '-fc', '-f=d', '--file', 'e', '.'])
  t.deepEqual(valuesOf(line, 'file'), ['a', 'b', 'c', 'd', 'e'])
})

test('a switch is on unless it says false last', (t) => {
  t.true(isOn(readCommandLine('build', ['--load', '.']), 'load'))
  t.false(isOn(readCommandLine('build', ['--load=false', '.']), 'load'))
  t.true(isOn(readCommandLine('build', ['-q', '.']), 'quiet'))
  t.false(isOn(readCommandLine('build', ['.']), 'quiet'))
})

for (const args of [
  ['--builder', 'x', '.'],
  ['--builder=x', '.'],
]) {
  test(`"${args.join(' ')}" is refused, because Hearth chooses the builder`, (t) => {
    const error = t.throws(() => readCommandLine('build', args), { instanceOf: HearthError })
    t.is(error?.code, 'invalid-input')
    t.regex(error?.hint ?? '', /docker buildx build/)
  })
}

test('a flag whose value is missing is refused', (t) => {
  for (const args of [['-t'], ['.', '--project'], ['--file'], ['--project=']]) {
    t.throws(() => readCommandLine('build', args), {
      instanceOf: HearthError,
      message: /needs a value/,
    })
  }
})

test('whatever is typed, only Hearth’s own flags go missing', (t) => {
  const word = fc.oneof(
    fc.constantFrom('-t', '--file', '--load', '-q', '--push=true', '.', '-', 'ctx', '--build-arg'),
    fc.string().filter((text) => !/^--(project|data|json|builder)/.test(text) && text !== '--'),
  )
  fc.assert(
    fc.property(fc.constantFrom<BuildxVerb>('build', 'bake'), fc.array(word), (verb, args) => {
      // A value at the end, so that no flag lacks one.
      const typed = [...args, 'end']
      t.deepEqual(readCommandLine(verb, typed).passed, typed)
    }),
  )
})

test('the history has the command without values that may be secret', (t) => {
  const line = readCommandLine('build', [
    ...['-t', 'app:dev', '--build-arg', 'TOKEN=hunter2', '--secret', 'id=a,env=hunter2'],
    ...['--cache-to', 'type=s3,secret_access_key=hunter2', '--label=hunter2', '--load'],
    ...['--zzz=hunter2', '-f', 'https://me:hunter2@host/Dockerfile?token=hunter2'],
    'https://me:hunter2@example.com/r.git?x=hunter2',
  ])
  const text = historyCommand(line)
  t.notRegex(text, /hunter2/)
  t.is(
    text,
    'build --tag app:dev --build-arg … --secret … --cache-to … --label … --load --zzz … ' +
      '--file https://host/Dockerfile https://example.com/r.git',
  )
})
