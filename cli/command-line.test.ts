import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { makeHome, runHearth } from './command-fixture.ts'
import { verbs } from './verbs.ts'

test.serial(
  'without a verb the help goes to standard error, and with --help to standard output',
  async (t) => {
    const home = await makeHome(t)
    const none = await runHearth(t, home, [])
    t.is(none.code, 2)
    t.is(none.stdout, '')
    const asked = await runHearth(t, home, ['--help'])
    t.is(asked.code, 0)
    t.is(asked.stdout, none.stderr)
    for (const name of Object.keys(verbs)) t.regex(asked.stdout, new RegExp(`^  ${name}\\b`, 'm'))
  },
)

const refused = test.macro({
  exec: async (
    t: ExecutionContext,
    args: readonly string[],
    expected: { code: number; line: RegExp; hint: RegExp; env?: NodeJS.ProcessEnv },
  ) => {
    const home = await makeHome(t)
    const { code, stdout, stderr } = await runHearth(t, home, args, { env: expected.env ?? {} })
    const [line = '', hint = '', ...rest] = stderr.split('\n')
    t.is(code, expected.code)
    t.regex(line, /^hearth: /)
    t.regex(line, expected.line)
    t.regex(hint, /^ {2}\S/)
    t.regex(hint, expected.hint)
    t.deepEqual(rest, [''], 'no more than two lines')
    t.is(stdout, '')
  },
  title: (title, args: readonly string[]) =>
    `${title ?? ''} "hearth ${args.join(' ')}" says what is wrong and what to do`,
})

const usage = (line: RegExp, hint: RegExp) => ({ code: 2, line, hint })

test.serial(refused, ['buld'], usage(/unknown verb "buld"/, /did you mean "hearth build"\?/))
test.serial(refused, ['xyzzy'], usage(/unknown verb "xyzzy"/, /"hearth help" lists/))
test.serial(refused, ['--verison'], usage(/unknown flag "--verison"/, /"hearth/))
test.serial(
  refused,
  ['builds', '--limmit', '3'],
  usage(/unknown flag "--limmit"/, /did you mean --limit\?/),
)
test.serial(refused, ['builds', '--limit', 'x'], {
  ...usage(/--limit: "x" is not a number/, /from 1 to 1000/),
})
test.serial(refused, ['builds', 'extra'], usage(/too many arguments/, /"hearth builds --help"/))
test.serial(refused, ['build-info'], usage(/missing required argument "id"/, /--help/))
test.serial(refused, ['cache'], usage(/cache needs to know what to do/, /hearth cache usage/))
test.serial(refused, ['cache', 'useage'], usage(/unknown command "useage"/, /did you mean usage\?/))
test.serial(refused, ['builds'], {
  code: 3,
  line: /no coordinator is known \(.*\/data has none\)/,
  hint: /run "hearth up".*"hearth login/,
})
test.serial('half a connection:', refused, ['builds'], {
  code: 2,
  line: /HEARTH_COORDINATOR is set and HEARTH_TOKEN is not/,
  hint: /or use "hearth login"/,
  env: { HEARTH_COORDINATOR: '127.0.0.1:9' },
})
test.serial('a wrong setting:', refused, ['up'], {
  code: 2,
  line: /HEARTH_PORT: "http" is not a whole number from 0 to 65535/,
  hint: /port: the port/,
  env: { HEARTH_PORT: 'http' },
})
test.serial(refused, ['login', 'localhost', '--ca', 'x', '--token', 'y'], {
  ...usage(/"localhost" is no address/, /host:port/),
})
test.serial(refused, ['login', 'localhost:1', '--ca', 'missing.pem', '--token', 'y'], {
  code: 6,
  line: /cannot read the certificate authority .*missing\.pem/,
  hint: /./,
})
test.serial(refused, ['node'], usage(/which coordinator to join/, /hearth node --join/))
test.serial(refused, ['node', '--join', 'a:1', '--listen', 'nowhere'], {
  ...usage(/--listen: "nowhere" is no address/, /host:port/),
})

test.serial('with --json an error is one document as well', async (t) => {
  const home = await makeHome(t)
  const { code, stdout, stderr } = await runHearth(t, home, ['nodes', '--json'])
  t.is(code, 3)
  const { error } = JSON.parse(stdout)
  t.is(error.code, 'environment')
  t.true(stderr.includes(error.message))
  t.true(stderr.includes(error.hint))
})

test.serial('a stack is shown only to whoever asks for it', async (t) => {
  const home = await makeHome(t)
  const { stderr } = await runHearth(t, home, ['nodes'], { env: { HEARTH_DEBUG: '1' } })
  t.regex(stderr, /^ {4}at .*connection/m)
})

test.serial('a coordinator that is away is named, with its address', async (t) => {
  const home = await makeHome(t)
  const pem = await home.write({ 'ca.pem': await certificate() })
  const env = { HEARTH_COORDINATOR: '127.0.0.1:9', HEARTH_TOKEN: 'x', HEARTH_CA: pem }
  const { code, stderr } = await runHearth(t, home, ['builds'], { env })
  t.is(code, 4)
  t.regex(
    stderr,
    /^hearth: cannot reach the coordinator at 127\.0\.0\.1:9: .*ECONNREFUSED.*\n {2}is it running\?/,
  )
})

test.serial('a damaged client.json is named', async (t) => {
  const home = await makeHome(t)
  const file = await home.write({ 'data/client.json': '{"version": 1, "address": 5}' })
  const damaged = await runHearth(t, home, ['builds'])
  t.is(damaged.code, 9)
  t.true(damaged.stderr.startsWith(`hearth: ${file} does not say how to reach a coordinator`))
  await writeFile(file, '{"version": 99}')
  const newer = await runHearth(t, home, ['builds'])
  t.is(newer.code, 10)
  t.regex(newer.stderr, /has version 99; this Hearth knows up to 1\n {2}use a newer Hearth/)
})

test.serial('config shows every value with its origin and no secret', async (t) => {
  const home = await makeHome(t)
  const pem = await home.write({ 'ca.pem': await certificate() })
  await home.write({
    'work/hearth.json': '{\n  "project": "app"\n}',
    'config.json': '{\n  "slots": 3,\n  "port": 99\n}',
  })
  const { code, stdout } = await runHearth(t, home, ['config', '--json'], {
    folder: path.join(home.folder, 'work'),
    env: {
      HEARTH_PORT: '100',
      HEARTH_COORDINATOR: 'a:1',
      HEARTH_TOKEN: 'hunter2',
      HEARTH_CA: pem,
    },
  })
  t.is(code, 0)
  t.notRegex(stdout, /hunter2/)
  const { settings } = JSON.parse(stdout) as {
    settings: { name: string; value: unknown; origin: string }[]
  }
  const of = (name: string) => {
    const found = settings.find((setting) => setting.name === name)
    return [found?.value, found?.origin]
  }
  t.deepEqual(of('project'), ['app', `${home.folder}/work/hearth.json:2`])
  t.deepEqual(of('slots'), [3, `${home.folder}/config.json:2`])
  t.deepEqual(of('port'), [100, 'HEARTH_PORT'])
  t.deepEqual(of('logLevel'), ['info', 'default'])
  t.deepEqual(of('data'), [`${home.folder}/data`, 'HEARTH_DATA'])
  t.deepEqual(of('coordinator'), ['a:1', 'HEARTH_COORDINATOR'])
  t.deepEqual(of('token'), ['(secret)', 'HEARTH_TOKEN'])
})

test.serial('the doctor names every check, and its exit code follows from them', async (t) => {
  const home = await makeHome(t)
  const { code, stdout } = await runHearth(t, home, ['doctor', '--json'])
  const { healthy, checks } = JSON.parse(stdout) as {
    healthy: boolean
    checks: { name: string; state: string; fix?: string }[]
  }
  t.is(code, healthy ? 0 : 3)
  t.is(healthy, !checks.some((check) => check.state === 'problem'))
  const names = ['Node.js', 'buildx', 'coordinator', 'system', 'root', 'runc', 'CNI plugins']
  for (const name of [
    ...names,
    'iptables',
    'nftables',
    'name servers',
    'buildkitd',
    'cgroups',
    'overlayfs',
    'data folder',
  ]) {
    t.true(
      checks.some((check) => check.name === name),
      name,
    )
  }
  for (const check of checks) if (check.state !== 'ok') t.truthy(check.fix, check.name)
})

test.serial('the doctor says how to get what is missing', async (t) => {
  const home = await makeHome(t)
  const { code, stdout } = await runHearth(t, home, ['doctor'], {
    env: { HEARTH_BUILDKITD: '/nowhere/buildkitd', HEARTH_BUILDX: '/nowhere/buildx' },
  })
  t.is(code, 3)
  t.regex(stdout, /^FAIL {2}buildx +not on this machine\n {6}fix: hearth doctor --fix/m)
  t.regex(stdout, /^FAIL {2}buildkitd +not on this machine\n {6}fix: /m)
  t.regex(stdout, /problems: builds from here will not work yet\.\n$/)
})

test.serial('a buildkitd that is too old is a problem', async (t) => {
  const home = await makeHome(t)
  const file = await home.write({ 'bin/buildkitd': '#!/bin/sh\necho buildkitd x v0.34.1 abc\n' })
  const { chmod } = await import('node:fs/promises')
  await chmod(file, 0o755)
  const { stdout } = await runHearth(t, home, ['doctor'], { env: { HEARTH_BUILDKITD: file } })
  t.regex(stdout, /^FAIL {2}buildkitd +0\.34\.1 is too old .*\n {6}fix: use 0\.34\.2 or newer/m)
})

/** Any certificate: nobody is there to show another. */
async function certificate(): Promise<string> {
  const { rootCertificates } = await import('node:tls')
  return rootCertificates[0] ?? ''
}
