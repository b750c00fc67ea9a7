import { execFile } from 'node:child_process'
import { cp, mkdtemp, readdir, rm, symlink } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import test from 'ava'
import { packagesImportedBy } from './build-package.ts'

const run = promisify(execFile)
const root = path.resolve(import.meta.dirname, '..')

test('packages are found in every kind of import', (t) => {
  const text = `
    import a from 'one'
    import { b } from "@scope/two/deep.js"
    export * from './relative.js'
    import 'three'
    import fs from 'node:fs'
    const c = await import('four/x')
  `
  t.deepEqual(packagesImportedBy(text), ['one', '@scope/two', 'three', 'four'])
})

test('the packed tarball, installed for all, is a working hearth', async (t) => {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'hearth-package-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const home = { HOME: folder, HEARTH_DATA: path.join(folder, 'data') }
  // The user's own npm configuration, the registry in it above all, stays where it is.
  const npmHome = { npm_config_userconfig: path.join(os.homedir(), '.npmrc') }
  const cache = { npm_config_cache: (await run('npm', ['config', 'get', 'cache'])).stdout.trim() }
  const env = { ...process.env, ...home, ...npmHome, ...cache, XDG_CACHE_HOME: folder }
  const sources = await copySources(path.join(folder, 'sources'))
  await run('npm', ['pack', '--silent', '--pack-destination', folder], { cwd: sources, env })
  const tarball = (await readdir(folder)).find((name) => name.endsWith('.tgz')) ?? ''
  t.regex(tarball, /^hearth-build-\d/)

  const { stdout: listing } = await run('tar', ['tzf', path.join(folder, tarball)])
  t.regex(listing, /^package\/LICENSE$/m)
  t.regex(listing, /^package\/tools\/setup\.sh$/m)
  t.notRegex(listing, /\.test\.|fixture|\.ts$/m)

  const install = [
    'install',
    '--global',
    '--prefix',
    folder,
    '--no-audit',
    '--no-fund',
    '--prefer-offline',
  ]
  await run('npm', [...install, path.join(folder, tarball)], { cwd: folder, env })
  const hearth = path.join(folder, 'bin/hearth')
  // Without our own Node 24 in the path: as on a machine that has an older one.
  const PATH = (process.env.PATH ?? '')
    .split(path.delimiter)
    .filter((entry) => !entry.includes('node_modules'))
    .join(path.delimiter)
  const person = { env: { ...env, PATH }, cwd: folder }
  const version = JSON.parse((await run(hearth, ['version', '--json'], person)).stdout)
  t.true(Number(version.node.split('.')[0]) >= 24)
  const doctor = await run(hearth, ['doctor', '--json'], person).catch(
    (error: { stdout: string }) => error,
  )
  const { checks } = JSON.parse(doctor.stdout) as { checks: { name: string; state: string }[] }
  t.is(checks.find((check) => check.name === 'Node.js')?.state, 'ok')
  await t.throwsAsync(run(hearth, ['up', '--port', 'x'], person), { message: /whole number/ })
})

/** Packing builds dist/ in place, and two runs of this test must not do that in one place. */
async function copySources(target: string): Promise<string> {
  const leftOut = ['node_modules', '.git', 'dist', 'results']
  await cp(root, target, {
    recursive: true,
    filter: (file) => !leftOut.includes(path.basename(file)) && !file.endsWith('.tgz'),
  })
  await symlink(path.join(root, 'node_modules'), path.join(target, 'node_modules'))
  return target
}
