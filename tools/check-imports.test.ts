import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import test from 'ava'
import { checkImports } from './check-imports.ts'
import { judgeImport } from './import-rules.ts'

const allowed = test.macro({
  exec(t, from: string, to: string) {
    t.deepEqual(judgeImport(from, to), { type: 'allowed' })
  },
  title: (_, from, to) => `${from} may import ${to}`,
})

const refused = test.macro({
  exec(t, from: string, to: string) {
    t.is(judgeImport(from, to).type, 'refused')
  },
  title: (_, from, to) => `${from} may not import ${to}`,
})

test(allowed, 'cli/buildx.ts', 'core/errors.ts')
test(allowed, 'cli/main.ts', 'cli/commands/up.ts')
test(allowed, 'cli/commands/up.ts', 'coordinator/main.ts')
test(allowed, 'cli/commands/node.ts', 'node/main.ts')
test(allowed, 'node/main.ts', 'node/buildkit-runner/proxy/index.ts')
test(allowed, 'node/buildkit-runner/proxy/index.ts', 'node/scheduler/index.ts')
test(allowed, 'node/cache-store/index.ts', 'mesh/index.ts')
test(allowed, 'cli/doctor/object-store.ts', 'node/cache-store/s3-tier/check.ts')
test(allowed, 'coordinator/service.test.ts', 'test/harness/ports.ts')
test(allowed, 'bench/main.ts', 'node/main.ts')
test(allowed, 'cli/main.ts', 'package.json')

test(refused, 'cli/commands/builds.ts', 'coordinator/main.ts')
test(refused, 'cli/main.ts', 'node/main.ts')
test(refused, 'cli/doctor/node-checks.ts', 'node/cache-store/s3-tier/check.ts')
test(refused, 'coordinator/main.ts', 'node/scheduler/index.ts')
test(refused, 'node/main.ts', 'coordinator/main.ts')
test(refused, 'node/cache-store/store.ts', 'node/buildkit-runner/daemon/index.ts')
test(refused, 'node/scheduler/index.ts', 'node/buildkit-runner/proxy/index.ts')
test(refused, 'node/scheduler/index.ts', 'node/service.ts')
test(refused, 'mesh/host.ts', 'node/cache-store/index.ts')
test(refused, 'core/log.ts', 'proto/generated/hearth/v1/build.ts')
test(refused, 'core/log.ts', 'test/harness/ports.ts')
test(refused, 'cli/main.ts', 'elsewhere/new.ts')

test('every way of importing is seen, with its line, and what only looks like one is not', async (t) => {
  const root = await mkdtemp(path.join(os.tmpdir(), 'hearth-imports-'))
  t.teardown(() => rm(root, { recursive: true, force: true }))
  const files: Record<string, string> = {
    'tsconfig.json': JSON.stringify({
      compilerOptions: { module: 'nodenext', types: [], noEmit: true },
      include: ['core', 'node'],
    }),
    'node/main.ts': 'export const a = 1\nexport type B = number\n',
    'core/x.ts': [
      "// import '../node/main.ts'",
      "import { a } from '../node/main.ts'",
      "import type { B } from '../node/main.ts'",
      "export * from '../node/main.ts'",
      'const text = "import(\'../node/main.ts\')"',
      "const later = await import('../node/main.ts')",
      "type C = import('../node/main.ts').B",
    ].join('\n'),
  }
  for (const [name, content] of Object.entries(files)) {
    await mkdir(path.dirname(path.join(root, name)), { recursive: true })
    await writeFile(path.join(root, name), content)
  }
  const found = checkImports(root)
  t.is(found.files, 2)
  t.deepEqual(
    found.refused.map(({ file, line }) => `${file}:${line}`),
    ['core/x.ts:2', 'core/x.ts:3', 'core/x.ts:4', 'core/x.ts:6', 'core/x.ts:7'],
  )
  t.is(found.refused[0]?.reason, 'core may not import node')
})
