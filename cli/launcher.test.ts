import { chmod, copyFile, mkdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import test from 'ava'
import { packageFolder, packageVersion } from '../core/package-folder.ts'
import { makeHome, runHearth, startHearthCommand } from './command-fixture.ts'

const launcher = path.join(packageFolder(), 'cli', 'launcher.cjs')

/** The Node that a person has: the first on the path that did not come with our packages. */
const systemNode = (process.env.PATH ?? '')
  .split(path.delimiter)
  .filter((folder) => !folder.includes('node_modules'))
  .map((folder) => path.join(folder, 'node'))

async function findSystemNode(): Promise<string> {
  const { existsSync } = await import('node:fs')
  return systemNode.find((file) => existsSync(file)) ?? process.execPath
}

test.serial('whatever Node starts it, the program runs in Node 24 or newer', async (t) => {
  const home = await makeHome(t)
  for (const node of [await findSystemNode(), process.execPath]) {
    const program = [node, launcher]
    const { code, stdout } = await runHearth(t, home, ['version', '--json'], { program })
    t.is(code, 0)
    const document = JSON.parse(stdout)
    t.is(document.hearth, packageVersion())
    t.true(Number(document.node.split('.')[0]) >= 24)
  }
})

test.serial('the exit code and both streams come through', async (t) => {
  const home = await makeHome(t)
  const program = [await findSystemNode(), launcher]
  const { code, stdout, stderr } = await runHearth(t, home, ['nodes', '--json'], { program })
  t.is(code, 3)
  t.is(JSON.parse(stdout).error.code, 'environment')
  t.regex(stderr, /^hearth: no coordinator is known/)
})

test.serial('a signal to the launcher reaches the program, which ends as it likes', async (t) => {
  const home = await makeHome(t)
  // Stands in for the program: it says that it runs, and answers the signal with an exit code of its own.
  const program =
    "process.on('SIGTERM', () => process.exit(42)); process.stderr.write('ready\\n'); setInterval(() => {}, 1e6)"
  await home.write({ 'package/cli/main.ts': program })
  const copied = path.join(home.folder, 'package/cli/launcher.cjs')
  await copyFile(launcher, copied)
  const platform = `node-${process.platform}-${process.arch}`
  const manifest = await home.write({
    [`package/node_modules/${platform}/package.json`]: JSON.stringify({ name: platform }),
  })
  const node = path.join(path.dirname(manifest), 'bin/node')
  await mkdir(path.dirname(node))
  await copyFile(process.execPath, node)
  const running = startHearthCommand(t, home, [], { program: [await findSystemNode(), copied] })
  await running.says(/ready/)
  running.kill('SIGTERM')
  t.is((await running.ended).code, 42)
})

test.serial('without any Node 24 it says what to install', async (t) => {
  const home = await makeHome(t)
  const text = await readFile(launcher, 'utf8')
  // As an old Node on a machine where the optional packages were not installed.
  const old = text.replaceAll('process.versions.node', "'18.1.0'")
  const copied = await home.write({ 'package/cli/launcher.cjs': old })
  await chmod(copied, 0o755)
  const { code, stderr } = await runHearth(t, home, ['version'], {
    program: [process.execPath, copied],
  })
  t.is(code, 3)
  t.is(
    stderr,
    'hearth: this is Node 18.1.0, and Hearth needs Node 24\n' +
      '  install Node 24, or reinstall hearth-build with its optional dependencies\n',
  )
})
