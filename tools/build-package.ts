/**
 * `npm run build`: the publishable package. Emits the rooms that run in production as JavaScript into dist/,
 * because Node strips no types under node_modules, and checks that what was emitted can be installed:
 * everything it imports is a dependency, and everything package.json lists is there.
 */
import { execFile } from 'node:child_process'
import { glob, readFile, rm } from 'node:fs/promises'
import { builtinModules } from 'node:module'
import path from 'node:path'
import { promisify } from 'node:util'
import { z } from 'zod'
import { HearthError } from '../core/errors.ts'

const root = path.resolve(import.meta.dirname, '..')

const manifestShape = z.object({
  files: z.array(z.string()),
  bin: z.record(z.string(), z.string()),
  dependencies: z.record(z.string(), z.string()),
})

/** @throws HearthError */
export async function buildPackage(): Promise<{ files: number }> {
  const dist = path.join(root, 'dist')
  await rm(dist, { recursive: true, force: true })
  await emit()
  const manifest = manifestShape.parse(
    JSON.parse(await readFile(path.join(root, 'package.json'), 'utf8')),
  )
  await checkListedFiles(manifest)
  return { files: await checkImports(dist, Object.keys(manifest.dependencies)) }
}

async function emit(): Promise<void> {
  const compiler = path.join(root, 'node_modules', '.bin', 'tsc')
  try {
    await promisify(execFile)(compiler, ['--project', 'tsconfig.build.json'], { cwd: root })
  } catch (error) {
    const { stdout } = error as { stdout?: string }
    throw new HearthError('invalid-input', `the sources do not compile:\n${stdout ?? ''}`, {
      cause: error,
    })
  }
}

async function checkListedFiles(manifest: z.infer<typeof manifestShape>): Promise<void> {
  for (const pattern of [...manifest.files, ...Object.values(manifest.bin)]) {
    const found = await Array.fromAsync(glob(pattern, { cwd: root }))
    if (found.length > 0) continue
    throw new HearthError('not-found', `package.json lists ${pattern}, which is not there`)
  }
}

/** @returns the number of files. */
async function checkImports(dist: string, dependencies: readonly string[]): Promise<number> {
  let files = 0
  for await (const file of glob('**/*.js', { cwd: dist })) {
    files += 1
    const text = await readFile(path.join(dist, file), 'utf8')
    for (const name of packagesImportedBy(text)) {
      if (builtinModules.includes(name) || dependencies.includes(name)) continue
      throw new HearthError('not-found', `dist/${file} imports ${name}, which is no dependency`)
    }
  }
  return files
}

/** Names of packages in static and dynamic imports; relative ones and `node:` ones are left out. */
export function packagesImportedBy(text: string): string[] {
  const specifiers = text.matchAll(/(?:\bfrom\s*|\bimport\s*\(?\s*)["']([\w@./:-]+)["']/g)
  return [...specifiers]
    .map(([, specifier = '']) => specifier)
    .filter((specifier) => !/^(\.|\/|node:)/.test(specifier))
    .map((specifier) =>
      specifier
        .split('/')
        .slice(0, specifier.startsWith('@') ? 2 : 1)
        .join('/'),
    )
}

if (import.meta.main) {
  const { files } = await buildPackage()
  process.stderr.write(`dist: ${files} files\n`)
}
