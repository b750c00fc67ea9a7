/** `hearth plan` as people use it: on the node of the last build. */
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import test from 'ava'
import { startHearth } from '../harness/index.ts'
import { createContext } from '../proxy/context.ts'

test('a plan names the steps and what differs from the last one, and builds nothing', async (t) => {
  t.timeout(180_000)
  await using hearth = await startHearth()
  await using context = await createContext('ARG WORD=one\nCOPY a /a\nRUN cat /a && echo $WORD', {
    a: '1',
  })
  const built = await hearth.build(['--project', 'planned', context.path])
  t.is(built.exitCode, 0, built.stderr)
  await hearth.settled(built.buildId ?? '')

  const plan = async (...flags: string[]) => {
    const args = ['plan', '--project', 'planned', '--json', ...flags, context.path]
    const { stdout, stderr, exitCode } = await hearth.run(args)
    t.is(exitCode, 0, stderr)
    const [made] = JSON.parse(stdout).plans
    t.deepEqual(made.partial, [])
    return made
  }
  const first = await plan()
  t.deepEqual(
    first.steps.map((step: { source: { firstLine: number } }) => step.source.firstLine),
    [2, 3, 5, 6],
  )
  t.is((await plan()).difference.type, 'same')

  await writeFile(path.join(context.path, 'a'), '2')
  const edited = await plan()
  t.deepEqual(
    edited.steps.map((step: { sameAsLast: boolean }) => step.sameAsLast),
    [true, true, false, false],
  )
  t.like(edited.difference, { type: 'different', firstLine: 5 })
  t.deepEqual(
    edited.difference.differences.map(({ text }: { text: string }) => text),
    ['the file a was changed'],
  )

  const argued = await plan('--build-arg', 'WORD=two')
  t.like(argued.difference, { firstLine: 6 })
  t.deepEqual(
    argued.difference.differences.map(({ text }: { text: string }) => text),
    ['the build argument or variable WORD was changed'],
  )

  const shown = await hearth.run(['plan', '--project', 'planned', context.path])
  t.log(shown.stdout)
  t.regex(shown.stdout, /^Dockerfile:5 .*COPY a \/a +[0-9a-f]{12} +same$/m)
  t.regex(shown.stdout, /First difference: Dockerfile:6/)
  const builds = JSON.parse((await hearth.run(['builds', '--json'])).stdout)
  t.is(builds.builds.length, 1, 'planning leaves no builds behind')
})

test('what cannot be planned is said, and is no failure', async (t) => {
  t.timeout(180_000)
  await using hearth = await startHearth()
  await using context = await createContext('RUN true')
  const built = await hearth.build(['--project', 'planned', context.path])
  t.is(built.exitCode, 0, built.stderr)
  await writeFile(path.join(context.path, 'Dockerfile'), 'FROM 127.0.0.1:9/private:1\nRUN true\n')
  const partial = await hearth.run(['plan', '--project', 'planned', context.path])
  t.is(partial.exitCode, 0, partial.stderr)
  t.regex(partial.stdout, /The plan is partial: the operations are not known: .*private:1/)

  const wrong = await hearth.run(['plan', '--project', 'planned', path.join(context.path, 'gone')])
  t.is(wrong.exitCode, 6, wrong.stderr)
  const help = await hearth.run(['plan', '--help'])
  t.regex(help.stdout, /Usage: hearth plan/)
})
