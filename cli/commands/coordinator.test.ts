import { stat } from 'node:fs/promises'
import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import {
  type Home,
  makeFakeBuildx,
  makeHome,
  runHearth,
  startHearthCommand,
} from '../command-fixture.ts'

interface Ready {
  address: string
  caFile: string
  joinToken: string
}

/** A real coordinator as a process of its own, in the data folder of the home. */
async function start(t: ExecutionContext, home: Home) {
  const running = startHearthCommand(t, home, ['coordinator', '--listen', '127.0.0.1:0', '--json'])
  const text = await running.prints(/\}\n$/)
  return { running, ready: JSON.parse(text) as Ready }
}

test.serial('the client verbs find the coordinator that runs over the data folder', async (t) => {
  const home = await makeHome(t)
  const { running, ready } = await start(t, home)
  t.is((await stat(path.join(home.folder, 'data/client.json'))).mode & 0o777, 0o600)

  t.is((await runHearth(t, home, ['projects', 'create', 'app', '--cache-gb', '5'])).code, 0)
  const projects = await runHearth(t, home, ['projects', 'list', '--json'])
  t.like(JSON.parse(projects.stdout).projects[0], {
    name: 'app',
    cacheBytesMax: 5e9,
    cacheDaysMax: null,
  })
  t.regex(
    (await runHearth(t, home, ['projects', 'list'])).stdout,
    /^app +just now +5\.0 GB +default$/m,
  )

  t.deepEqual(JSON.parse((await runHearth(t, home, ['nodes', '--json'])).stdout), { nodes: [] })
  t.regex((await runHearth(t, home, ['builds'])).stdout, /^No builds yet/)
  t.is((await runHearth(t, home, ['cache', 'usage'])).code, 0)

  const unknown = await runHearth(t, home, ['build-info', 'nothing'])
  t.is(unknown.code, 6)
  t.is((await runHearth(t, home, ['projects', 'create', 'app'])).code, 7)
  t.is((await runHearth(t, home, ['projects', 'create', 'No Name'])).code, 2)

  const doctor = await runHearth(t, home, ['doctor', '--client', '--json'])
  const { checks } = JSON.parse(doctor.stdout) as { checks: { name: string; found: string }[] }
  const found = checks.find((check) => check.name === 'coordinator')?.found ?? ''
  t.true(found.startsWith(`${ready.address} answers`))

  running.kill('SIGTERM')
  t.is((await running.ended).code, 0)
  t.is((await runHearth(t, home, ['nodes'])).code, 4)
})

test.serial(
  'a project’s token logs in from elsewhere, sees its project alone, and can be revoked',
  async (t) => {
    const home = await makeHome(t)
    const { ready } = await start(t, home)
    await runHearth(t, home, ['projects', 'create', 'app'])
    const created = await runHearth(t, home, ['tokens', 'create', '--project', 'app', '--json'])
    const { id, token } = JSON.parse(created.stdout)

    const other = await makeHome(t)
    const wrong = ['login', ready.address, '--ca', ready.caFile, '--token', 'hth_x_y']
    t.is((await runHearth(t, other, wrong)).code, 5)
    const right = ['login', ready.address, '--ca', ready.caFile]
    const env = { HEARTH_DATA: '' }
    const login = await runHearth(t, other, right, { env: { ...env, HEARTH_TOKEN: token } })
    t.is(login.code, 0)
    t.is((await stat(path.join(other.folder, '.config/hearth/client.json'))).mode & 0o777, 0o600)

    t.is((await runHearth(t, other, ['builds'], { env })).code, 0)
    const forbidden = await runHearth(t, other, ['tokens', 'create'], { env })
    t.is(forbidden.code, 5)
    t.regex(forbidden.stderr, /may not do this\n {2}use an operator's token/)

    t.is((await runHearth(t, home, ['tokens', 'revoke', id])).code, 0)
    t.is((await runHearth(t, other, ['builds'], { env })).code, 5)
  },
)

test.serial('a build with no node to go to is told so', async (t) => {
  const home = await makeHome(t)
  const buildx = await makeFakeBuildx(home)
  await start(t, home)
  await home.write({ 'src/Dockerfile': 'FROM scratch\n' })
  const { code, stderr } = await runHearth(t, home, ['build', 'src'], { env: buildx.env })
  t.is(code, 4)
  t.regex(stderr, /no node/i)
})

test.serial('a taken port and a taken folder are one line each', async (t) => {
  const home = await makeHome(t)
  const { ready } = await start(t, home)
  const other = await makeHome(t)
  const port = await runHearth(t, other, ['coordinator', '--listen', ready.address])
  t.is(port.code, 3)
  t.regex(port.stderr, /^hearth: 127\.0\.0\.1:\d+ is taken\n {2}choose another port/m)
  const folder = await runHearth(t, home, ['coordinator', '--listen', '127.0.0.1:0'])
  t.is(folder.code, 3)
  t.regex(folder.stderr, /^hearth: .* is in use by a coordinator \(process \d+\)\n {2}/m)
})
