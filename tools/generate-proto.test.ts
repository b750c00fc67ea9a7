import { execFile } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import test from 'ava'

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..')

test('the generated contracts are what the .proto files say today', async (t) => {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'hearth-proto-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const buf = path.join(root, 'node_modules/.bin/buf')
  await promisify(execFile)(buf, ['generate', '--output', folder], { cwd: root })

  const fresh = await readTree(path.join(folder, 'proto/generated'))
  const committed = await readTree(path.join(root, 'proto/generated'))
  t.true(fresh.size > 0)
  t.deepEqual([...committed.keys()], [...fresh.keys()])
  for (const [file, text] of fresh) {
    t.true(committed.get(file) === text, `${file} is stale: run "npm run proto"`)
  }
})

async function readTree(folder: string): Promise<Map<string, string>> {
  const names = await readdir(folder, { recursive: true })
  const files = names.filter((name) => name.endsWith('.ts')).sort()
  const texts = files.map(
    async (name) => [name, await readFile(path.join(folder, name), 'utf8')] as const,
  )
  return new Map(await Promise.all(texts))
}
