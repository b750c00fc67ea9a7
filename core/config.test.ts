import test from 'ava'
import fc from 'fast-check'
import { findSetting, findText, formatOrigin, type Layers, type Setting } from './config.ts'
import { type ConfigFile, parseConfigFile } from './config-file.ts'
import { HearthError } from './errors.ts'
import { nearest } from './nearest.ts'

const port: Setting = {
  name: 'port',
  flag: '--port',
  environment: 'HEARTH_PORT',
  rule: { type: 'integer', min: 0, max: 65_535 },
  description: 'where to listen',
}
const project: Setting = {
  name: 'project',
  flag: '--project',
  environment: 'HEARTH_PROJECT',
  rule: { type: 'text' },
  description: 'whose build it is',
}
const level: Setting = {
  name: 'level',
  flag: '--level',
  environment: 'HEARTH_LEVEL',
  rule: { type: 'choice', choices: ['low', 'high'] },
  description: 'how much',
}

const keys = ['project', 'port', 'level']

function layersOf(given: {
  flags?: Layers['flags']
  environment?: NodeJS.ProcessEnv
  files?: ConfigFile[]
}): Layers {
  return {
    flags: given.flags ?? {},
    environment: given.environment ?? {},
    files: given.files ?? [],
  }
}

const file = (text: string) => parseConfigFile('/etc/some.json', text, keys)

test('a flag beats the environment, which beats a file', async (t) => {
  const files = [await file('{\n  "port": 3\n}')]
  const environment = { HEARTH_PORT: '2' }
  const from = async (layers: Layers) => {
    const found = await findSetting(port, layers)
    return found && [found.value, await formatOrigin(port, found.origin)]
  }
  t.deepEqual(await from(layersOf({ flags: { port: '1' }, environment, files })), [1, '--port'])
  t.deepEqual(await from(layersOf({ environment, files })), [2, 'HEARTH_PORT'])
  t.deepEqual(await from(layersOf({ files })), [3, '/etc/some.json:2'])
  t.is(await from(layersOf({})), undefined)
})

test('of two files the first that has the key counts', async (t) => {
  const first = await parseConfigFile('/first.json', '{"project": "near"}', keys)
  const second = await parseConfigFile('/second.json', '{"project": "far", "port": 9}', keys)
  const layers = layersOf({ files: [first, second] })
  t.is((await findText(project, layers))?.value, 'near')
  t.is((await findSetting(port, layers))?.value, 9)
})

test('an empty environment variable counts as unset', async (t) => {
  t.is(await findSetting(port, layersOf({ environment: { HEARTH_PORT: '' } })), undefined)
})

const refused = test.macro({
  exec: async (t, setting: Setting, layers: Promise<Layers> | Layers, message: RegExp) => {
    const error = await t.throwsAsync(async () => findSetting(setting, await layers), {
      instanceOf: HearthError,
    })
    t.is(error?.code, 'invalid-input')
    t.regex(error?.message ?? '', message)
    t.truthy(error?.hint)
  },
  title: (title) => `${title} is refused, naming the place`,
})

const inFile = async (text: string) => layersOf({ files: [await file(text)] })

test('a number that is none', refused, port, layersOf({ flags: { port: '8o' } }), /^--port: "8o"/)
test(
  'a number out of range',
  refused,
  port,
  layersOf({ environment: { HEARTH_PORT: '70000' } }),
  /^HEARTH_PORT: "70000" is not a whole number from 0 to 65535$/,
)
test(
  'a number written as a text in a file',
  refused,
  port,
  inFile('{\n\n"port": "80"}'),
  /^\/etc\/some\.json:3: port: "80" is not a whole number/,
)
test(
  'a text written as a number in a file',
  refused,
  project,
  inFile('{"project": 1}'),
  /^\/etc\/some\.json:1: project: 1 is not a text/,
)
test(
  'a word outside the choices',
  refused,
  level,
  layersOf({ flags: { level: 'middle' } }),
  /^--level: "middle" is not one of low, high$/,
)
test(
  'a secret that is wrong',
  refused,
  { ...port, secret: true },
  layersOf({ flags: { port: 'hunter2' } }),
  /^--port: the value is not/,
)

const malformed = test.macro({
  exec: async (t, text: string, message: RegExp, hint: RegExp) => {
    const error = await t.throwsAsync(() => file(text), { instanceOf: HearthError })
    t.is(error?.code, 'invalid-input')
    t.regex(error?.message ?? '', message)
    t.regex(error?.hint ?? '', hint)
  },
  title: (_, text) => `the file ${JSON.stringify(text)} is refused with its line`,
})

test(
  malformed,
  '{\n  "project": "a",\n  "prot": 1\n}',
  /^\/etc\/some\.json:3: unknown key "prot"/,
  /"port"/,
)
test(malformed, '{"zzzzzzzz": 1}', /:1: unknown key "zzzzzzzz"/, /known keys: project, port, level/)
test(malformed, '{\n  "project": "a"\n  "port": 1\n}', /:3: a comma is missing/, /correct the JSON/)
test(malformed, '{\n  "port": 1,\n}', /:3: /, /correct the JSON/)
test(malformed, '{ "port": 1', /:1: a closing brace is missing/, /correct the JSON/)
test(malformed, '{\n// no\n"port": 1 }', /:2: JSON has no comments/, /correct the JSON/)
test(malformed, '', /:1: /, /./)
test(malformed, '[1]', /:1: the file holds no JSON object/, /write \{/)

test('whatever text a file holds, it is read or refused with a line', async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.oneof(fc.string(), fc.json()), async (text) => {
      try {
        await file(text)
      } catch (error) {
        t.true(error instanceof HearthError)
        t.regex(String((error as Error).message), /^\/etc\/some\.json:\d+: ./)
      }
    }),
    { numRuns: 300 },
  )
})

test('the nearest word is found, and none when nothing is near', (t) => {
  const words = ['build', 'builds', 'bake', 'doctor', '--platform']
  t.is(nearest('buld', words), 'build')
  t.is(nearest('biuld', words), 'build')
  t.is(nearest('builds', words), 'builds')
  t.is(nearest('dcotor', words), 'doctor')
  t.is(nearest('--plattform', words), '--platform')
  t.is(nearest('xyzzy', words), undefined)
})
