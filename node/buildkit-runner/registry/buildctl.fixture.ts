/** For tests: builds by buildctl straight to a buildkitd, with a cache to import and one to export. */
import { spawn } from 'node:child_process'
import { copyFile, mkdir, mkdtemp, readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { findProgram } from '../../../core/programs.ts'

export interface TestBuild {
  /** Address of the buildkitd. */
  address: string
  dockerfile: string
  /** Files of the context beside busybox. */
  files?: Record<string, string>
  importFrom?: string
  exportTo?: string
  /** More attributes of the export, such as `compression=estargz`. */
  exportWith?: string
  noCache?: boolean
  /** The image is of no use: only the cache counts. */
  withoutOutput?: boolean
}

export interface BuildResult {
  readonly exitCode: number
  readonly output: string
  /** Steps by their text, such as `COPY a /a`: reused or run. */
  readonly steps: ReadonlyMap<string, 'cached' | 'ran'>
  /** Of the image, lowest first; empty when there is none. */
  readonly layers: readonly string[]
}

/** Every build starts from scratch with busybox: no image has to be pulled. */
export const base = 'FROM scratch AS base\nCOPY busybox /bin/busybox\n'

/** A step that never gives the same bytes twice. */
export function run(name: string): string {
  return `RUN ["/bin/busybox", "sh", "-c", "/bin/busybox cat /proc/sys/kernel/random/uuid > /${name}"]\n`
}

/** @param folder where context and output of this build may be left. */
export async function build(folder: string, request: TestBuild): Promise<BuildResult> {
  const own = await mkdtemp(path.join(folder, 'build-'))
  const context = path.join(own, 'context')
  const image = path.join(own, 'image')
  await mkdir(context)
  await copyFile('/bin/busybox', path.join(context, 'busybox'))
  await writeFile(path.join(context, 'Dockerfile'), request.dockerfile)
  for (const [name, content] of Object.entries(request.files ?? {})) {
    await writeFile(path.join(context, name), content)
  }
  const cache = (flag: string, ref: string | undefined, more = '') =>
    ref === undefined ? [] : [flag, `type=registry,ref=${ref}${more}`]
  const { exitCode, output } = await execute(await findProgram('buildctl'), [
    ...['--addr', request.address, 'build', '--progress', 'plain'],
    ...['--frontend', 'dockerfile.v0'],
    ...['--local', `context=${context}`, '--local', `dockerfile=${context}`],
    ...(request.withoutOutput ? [] : ['--output', `type=oci,tar=false,dest=${image}`]),
    ...cache('--import-cache', request.importFrom),
    ...cache('--export-cache', request.exportTo, `,mode=max${request.exportWith ?? ''}`),
    ...(request.noCache ? ['--no-cache'] : []),
  ])
  const isThere = exitCode === 0 && !request.withoutOutput
  const layers = isThere ? await layersOf(image) : []
  return { exitCode, output, steps: stepsOf(output), layers }
}

function execute(program: string, args: string[]): Promise<{ exitCode: number; output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    const chunks: Buffer[] = []
    child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk))
    child.stderr.on('data', (chunk: Buffer) => chunks.push(chunk))
    child.once('error', reject)
    child.once('close', (code) => {
      resolve({ exitCode: code ?? -1, output: Buffer.concat(chunks).toString() })
    })
  })
}

/**
 * Plain progress names a step once, as `#5 [stage 1/3] COPY …`, and ends it with CACHED or DONE. A reused step
 * whose layers are needed at once is shown as pulling or extracting them, and DONE.
 */
function stepsOf(output: string): Map<string, 'cached' | 'ran'> {
  const names = new Map<string, string>()
  const steps = new Map<string, 'cached' | 'ran'>()
  for (const line of output.split('\n')) {
    const [, id = '', text = ''] = /^(#\d+) (.*)$/.exec(line) ?? []
    const [, name] = /^\[[^\]]*\d+\/\d+\] (.*)$/.exec(text) ?? []
    if (name !== undefined) names.set(id, name)
    const step = names.get(id)
    if (step === undefined) continue
    if (/^(CACHED$|sha256:|extracting )/.test(text)) steps.set(step, 'cached')
    else if (text.startsWith('DONE') && !steps.has(step)) steps.set(step, 'ran')
  }
  return steps
}

async function layersOf(image: string): Promise<string[]> {
  const blob = (digest: string) =>
    path.join(image, 'blobs', 'sha256', digest.replace('sha256:', ''))
  const read = async (file: string) => JSON.parse(await readFile(file, 'utf8'))
  const index = (await read(path.join(image, 'index.json'))) as { manifests: { digest: string }[] }
  const manifest = (await read(blob(index.manifests[0]?.digest ?? ''))) as {
    layers: { digest: string }[]
  }
  return manifest.layers.map(({ digest }) => digest)
}
