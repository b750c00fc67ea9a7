/** Results on disk: every invocation's numbers are kept, raw values and all. */
import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const folder = path.join(path.dirname(fileURLToPath(import.meta.url)), 'results')

/** @returns the file that now holds the result. */
export async function keepResult(name: string, startedAt: string, result: object): Promise<string> {
  await mkdir(folder, { recursive: true })
  const file = path.join(folder, `${name}-${startedAt.replaceAll(/[:.]/g, '-')}.json`)
  await writeFile(file, `${JSON.stringify(result, undefined, 2)}\n`)
  return file
}
