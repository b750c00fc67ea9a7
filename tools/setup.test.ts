import { execFile } from 'node:child_process'
import { chmod, mkdtemp, readlink, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import test, { type ExecutionContext } from 'ava'

const script = path.join(path.dirname(fileURLToPath(import.meta.url)), 'setup.sh')

/** A folder of stand-ins that come first in PATH; the tools go to a second one. */
async function createStandIns(t: ExecutionContext, programs: Record<string, string>) {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'hearth-setup-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  for (const [name, body] of Object.entries(programs)) {
    const file = path.join(folder, name)
    await writeFile(file, `#!/bin/sh\n${body}\n`)
    await chmod(file, 0o755)
  }
  return { folder, tools: path.join(folder, 'tools') }
}

function setUp(what: string, env: NodeJS.ProcessEnv) {
  const options = { env: { ...process.env, ...env } }
  return new Promise<{ exitCode: number; said: string; stdout: string }>((resolve) => {
    const child = execFile('bash', [script, what], options, (_, stdout, said) =>
      resolve({ exitCode: child.exitCode ?? -1, said, stdout }),
    )
  })
}

test('when nothing is missing, no installer is started and it takes less than two seconds', async (t) => {
  const refuse = 'echo "$0 was started" >&2; exit 1'
  const { folder } = await createStandIns(t, { npm: refuse, 'apt-get': refuse, go: refuse })
  const startedAtMs = performance.now()
  // The tests themselves run after a set-up, so for "test" there is nothing left to do.
  const { exitCode, said } = await setUp('test', { PATH: `${folder}:${process.env.PATH}` })
  t.is(said, '')
  t.is(exitCode, 0)
  t.true(performance.now() - startedAtMs < 2000)
})

test('installed programs that are new enough are linked instead of built', async (t) => {
  const { folder, tools } = await createStandIns(t, {
    buildkitd: 'echo "buildkitd github.com/moby/buildkit v0.34.2 abcdef"',
    buildctl: 'echo "buildctl github.com/moby/buildkit v1.0.0 abcdef"',
    buildx: 'test "$1" = version && echo "github.com/docker/buildx v0.40.0 abcdef"',
    go: 'echo "go was started" >&2; exit 1',
  })
  const env = { PATH: `${folder}:${process.env.PATH}`, HEARTH_TOOLS: tools }
  const first = await setUp('demo', env)
  t.is(first.exitCode, 0, first.said)
  t.is(first.stdout, '')
  for (const program of ['buildkitd', 'buildctl', 'buildx']) {
    t.is(await readlink(path.join(tools, program)), path.join(folder, program))
  }
  t.is((await setUp('demo', env)).said, '', 'the second time there is nothing to do')
})

test('a Go that is too old to build what is missing is named, with what to do', async (t) => {
  const { folder, tools } = await createStandIns(t, {
    buildkitd: 'echo "buildkitd github.com/moby/buildkit v0.30.0 abcdef"',
    go: 'case "$1" in version) echo "go version go1.19.8 linux/amd64" ;; *) echo go1.19.8 ;; esac',
  })
  const { exitCode, said } = await setUp('demo', {
    PATH: `${folder}:${process.env.PATH}`,
    HEARTH_TOOLS: tools,
  })
  t.is(exitCode, 1)
  t.regex(said, /go1\.19\.8 is too old: install Go 1\.26\.8 or newer/)
  t.is(said.trim().split('\n').length, 1)
})

test('without root, what is missing from Debian is one command to run', async (t) => {
  const { folder } = await createStandIns(t, { id: 'echo 1000' })
  // A shell that finds no command but these looks like a machine that has nothing installed.
  const nothing = 'command() { [ "$2" = apt-get ] || [ "$2" = npm ]; }'
  const startup = path.join(folder, 'startup.sh')
  await writeFile(startup, nothing)
  const { exitCode, said } = await setUp('demo', {
    PATH: `${folder}:${process.env.PATH}`,
    BASH_ENV: startup,
  })
  t.is(exitCode, 1)
  t.regex(said, /you are not root\. Run: sudo apt-get install --no-install-recommends .*runc/)
  t.is(said.trim().split('\n').length, 1)
})

test('an unknown set is refused with the ones there are', async (t) => {
  const { exitCode, said } = await setUp('everything', {})
  t.is(exitCode, 2)
  t.regex(said, /demo\|test\|bench\|all/)
})
