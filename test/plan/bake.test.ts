/** The targets of a bake file, asked about one by one. */
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import test from 'ava'
import { findProgram } from '../../core/programs.ts'
import { askTargets } from '../../plan/index.ts'
import { createTemporaryFolder } from '../harness/index.ts'
import { write } from './cases.ts'

const bakeFile = `
variable "VERSION" { default = "1" }
group "default" { targets = ["one", "two"] }
target "one" {
  context = "app"
  dockerfile = "deep/Dockerfile"
  args = { VERSION = VERSION, EMPTY = null }
  target = "last"
  platforms = ["linux/amd64", "linux/arm64"]
  labels = { a = "b" }
  no-cache-filter = ["x"]
  tags = ["app:1"]
}
target "two" {
  contexts = { base = "target:one" }
}
target "three" {
  dockerfile-inline = "FROM scratch"
}
`

test('the targets of a bake become builds with the flags that count', async (t) => {
  await using folder = await createTemporaryFolder('bake')
  await using config = await createTemporaryFolder('buildx')
  await writeFile(path.join(folder.path, 'docker-bake.hcl'), bakeFile)
  await write(folder.path, { 'app/deep/Dockerfile': 'FROM scratch' })
  const buildx = {
    program: await findProgram('buildx'),
    env: { ...process.env, BUILDX_CONFIG: config.path, VERSION: '7' },
    folder: folder.path,
  }
  const signal = AbortSignal.timeout(30_000)
  const targets = await askTargets(buildx, ['default', 'three'], { signal })
  const one = targets.find(({ name }) => name === 'one')
  t.like(one, { context: 'app', platforms: ['linux/amd64', 'linux/arm64'], obstacle: undefined })
  t.deepEqual(
    one?.flags.map(({ name, value }) => `${name}=${value}`),
    [
      ...['file=app/deep/Dockerfile', 'build-arg=VERSION=7', 'label=a=b', 'target=last'],
      'no-cache-filter=x',
    ],
  )
  t.regex(targets.find(({ name }) => name === 'two')?.obstacle ?? '', /target:one/)
  t.regex(targets.find(({ name }) => name === 'three')?.obstacle ?? '', /bake file/)
  await t.throwsAsync(askTargets(buildx, ['nothing'], { signal }), { code: 'invalid-input' })
})
