import { chmod, readFile, stat } from 'node:fs/promises'
import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { HearthError } from '../../core/errors.ts'
import { makeHome } from '../command-fixture.ts'
import type { Terminal } from '../terminal.ts'
import { stopContainer, upInContainer } from './container.ts'

/** Stands in for docker: records what it is asked, and behaves as an engine with one container would. */
const script = `#!/bin/sh
state=$(dirname "$0")
PATH=/usr/bin:/bin
printf '%s\\n' "$*" >>"$state/asked"
case $1 in
  info) cat "$state/security";;
  ps) if [ -e "$state/running" ]; then echo id; fi;;
  images) if [ -e "$state/image" ]; then echo id; fi;;
  build) touch "$state/image"; ls "$6" >"$state/context"; echo built;;
  run) touch "$state/running";;
  logs) cat "$state/log-output"; cat "$state/log-errors" >&2
    if [ ! -s "$state/log-errors" ]; then exec sleep 60; fi;;
  exec) echo '{"version":1}';;
  stop) rm "$state/running";;
esac
`

async function arrange(t: ExecutionContext, engine: { security?: string; error?: string } = {}) {
  const home = await makeHome(t)
  const program = await home.write({
    'bin/docker': script,
    'bin/security': engine.security ?? '["name=seccomp,profile=builtin","name=cgroupns"]',
    'bin/log-output': engine.error === undefined ? '{\n  "state": "up"\n}\n' : '',
    'bin/log-errors': engine.error ?? '',
  })
  await chmod(program, 0o755)
  const notes: string[] = []
  const terminal: Terminal = {
    env: { ...home.env, PATH: path.dirname(program) },
    folder: home.folder,
    print: () => {},
    note: (line) => notes.push(line),
  }
  const data = path.join(home.folder, 'data')
  const recorded = (name: string) => readFile(path.join(path.dirname(program), name), 'utf8')
  const { signal } = new AbortController()
  const up = () =>
    upInContainer(
      terminal,
      { folder: data, port: 4711, nodes: 2, flags: ['--nodes', '2', '--slots', '2'] },
      { signal },
    )
  return { data, terminal, notes, recorded, up, signal }
}

test('a privileged container with published ports runs the same hearth up, and the client finds it', async (t) => {
  const { data, recorded, up, notes } = await arrange(t)
  const started = await up()
  t.like(started, { state: 'up', engine: 'docker', address: '127.0.0.1:4711' })
  t.regex(started.container, /^hearth-[0-9a-f]{12}$/)

  const asked = await recorded('asked')
  t.regex(asked, /^build --tag hearth-node:\d\S* --file \S+\/tools\/container\/Dockerfile /m)
  t.regex(await recorded('context'), /^cli\n(.*\n)*package\.json$/m)
  t.notRegex(await recorded('context'), /node_modules/)
  const name = started.container
  t.regex(
    asked,
    new RegExp(
      `^run --detach --name ${name} --privileged --hostname localhost --volume ${name}:/var/lib/hearth ` +
        '--publish 127.0.0.1:4711:4711 --publish 127.0.0.1:4712:4712 ' +
        '--publish 127.0.0.1:4713:4713 hearth-node:\\S+ ' +
        'up --foreground --json --data /var/lib/hearth --host 0.0.0.0 --port 4711 --nodes 2 --slots 2$',
      'm',
    ),
  )
  t.is((await stat(path.join(data, 'client.json'))).mode & 0o777, 0o600)
  t.regex(notes.join('\n'), /building the image hearth-node:\S+ for docker, once/)
})

test('once it runs it is left alone, its image is built once, and down stops it', async (t) => {
  const { data, recorded, terminal, up, signal } = await arrange(t)
  await up()
  t.is((await up()).state, 'already up')
  t.true(await stopContainer(terminal, data, { signal }))
  t.false(await stopContainer(terminal, data, { signal }))
  t.is((await up()).state, 'up')
  const count = async (pattern: RegExp) => (await recorded('asked')).match(pattern)?.length
  t.is(await count(/^run /gm), 2)
  t.is(await count(/^build /gm), 1)
})

test('what Hearth says in the container when it does not start is what the person reads', async (t) => {
  const { up } = await arrange(t, {
    error: '{"level":30}\nhearth: the data folder is damaged\n  restore it\n',
  })
  const error = await t.throwsAsync(up(), { instanceOf: HearthError })
  t.is(error?.message, 'the data folder is damaged')
  t.is(error?.hint, 'restore it')
})

test('without an engine, or with a rootless one alone, it says what is needed', async (t) => {
  const rootless = await arrange(t, { security: '["name=seccomp","name=rootless"]' })
  const none = await arrange(t)
  await chmod(path.join(none.terminal.env.PATH ?? '', 'docker'), 0o644)
  for (const { up } of [rootless, none]) {
    const error = await t.throwsAsync(up(), { instanceOf: HearthError })
    t.is(error?.code, 'environment')
    t.regex(error?.message ?? '', /needs .*, or a container engine, and there is none/)
    t.truthy(error?.hint)
  }
})
