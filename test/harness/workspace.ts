/** A workload's own copy to build and change, with everything it needs from the network laid beside it. */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { type BaseImage, busyboxImage, goImage, rebuiltImage } from './base-images.ts'
import { cacheFolder, madeOnce } from './cache-folder.ts'
import { pushImage } from './registry-client.ts'
import { createTemporaryFolder } from './temporary-folder.ts'

const workloads = path.resolve(
  path.dirname(fileURLToPath(import.meta.url)),
  '../../bench/workloads',
)

export interface Workspace extends AsyncDisposable {
  readonly folder: string
  /** What `build` needs to build it without a network; the context's path comes last. */
  readonly buildArgs: readonly string[]
  /** Changes one line of one source file, to something it never was before. */
  changeLine(): Promise<void>
  /** The same to the list of dependencies, so that they are fetched and everything after them is made again. */
  changeDependencies(): Promise<void>
  /** The image that the workload is built on comes out anew, under the same tag. */
  changeBase(): Promise<void>
  /** Everything is as it was at first. */
  restore(): Promise<void>
}

/** Fetches what the workload needs, once for all runs. Says so when it is about to take time. */
export async function prepareGoService(say: (line: string) => void): Promise<void> {
  say('base images: busybox and Go')
  await busyboxImage()
  await goImage()
  say('modules of the Go service')
  await goModules()
}

/** @param registryHost where the base images are pushed to, as `host:port`. */
export async function createWorkspace(registryHost: string): Promise<Workspace> {
  const modules = await goModules()
  return await openWorkspace(registryHost, {
    workload: 'go-service',
    bases: [
      { name: 'golang', tag: '1.26', image: await goImage() },
      { name: 'busybox', tag: '1', image: await busyboxImage() },
    ],
    buildArgs: ['--build-arg', 'GOPROXY=file:///modules', '--build-context', `modules=${modules}`],
    source: { file: 'internal/api/health.go', line: 'const Revision = "0"' },
    dependencies: { file: 'go.mod', line: 'go 1.26.0' },
  })
}

/** A few steps that take no time. */
export async function createSmallWorkspace(registryHost: string): Promise<Workspace> {
  return await openWorkspace(registryHost, {
    workload: 'few-steps',
    bases: [{ name: 'busybox', tag: '1', image: await busyboxImage() }],
    buildArgs: [],
    source: { file: 'source.txt', line: 'Revision = "0"' },
    dependencies: { file: 'dependencies.txt', line: 'two' },
  })
}

interface WorkspaceParts {
  workload: string
  /** The first is the one that changes. */
  bases: readonly [NamedImage, ...NamedImage[]]
  buildArgs: readonly string[]
  source: ChangingLine
  dependencies: ChangingLine
}

interface NamedImage {
  name: string
  tag: string
  image: BaseImage
}

interface ChangingLine {
  /** Below the workload's folder. */
  file: string
  /** As it stands there at first; a comment goes behind it where it has no "0" to be replaced. */
  line: string
}

async function openWorkspace(registryHost: string, parts: WorkspaceParts): Promise<Workspace> {
  await using cleanUp = new AsyncDisposableStack()
  const folder = cleanUp.use(await createTemporaryFolder(parts.workload)).path
  await cp(path.join(workloads, parts.workload), folder, { recursive: true })
  for (const { name, tag, image } of parts.bases) await pushImage(registryHost, name, tag, image)
  let revision = 0
  const name = path.basename(folder)
  const changers = new Map<string, string>()
  for (const { file, line } of [parts.source, parts.dependencies]) {
    const original = await readFile(path.join(folder, file), 'utf8')
    if (!original.includes(line)) throw new Error(`${file} has lost the line that is changed`)
    changers.set(file, original)
  }
  const change = async ({ file, line }: ChangingLine): Promise<void> => {
    revision += 1
    const original = changers.get(file) ?? ''
    const changed = line.includes('"0"')
      ? line.replace('"0"', `"${revision} of ${name}"`)
      : `${line} // ${revision} of ${name}`
    await writeFile(path.join(folder, file), original.replace(line, changed))
  }
  const [base] = parts.bases
  const owned = cleanUp.move()
  return {
    folder,
    buildArgs: ['--build-arg', `IMAGES=${registryHost}`, ...parts.buildArgs, folder],
    changeLine: () => change(parts.source),
    changeDependencies: () => change(parts.dependencies),
    async changeBase() {
      revision += 1
      await using rebuilt = await createTemporaryFolder('base')
      const options = { folder: rebuilt.path, revision: `${revision} of ${name}` }
      await pushImage(registryHost, base.name, base.tag, await rebuiltImage(base.image, options))
    },
    async restore() {
      for (const [file, original] of changers) await writeFile(path.join(folder, file), original)
      await pushImage(registryHost, base.name, base.tag, base.image)
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

/** The modules as a folder that `GOPROXY=file://…` reads, from the usual module proxy once. */
async function goModules(): Promise<string> {
  const source = path.join(workloads, 'go-service')
  const sums = await readFile(path.join(source, 'go.sum'))
  const key = createHash('sha256').update(sums).digest('hex').slice(0, 16)
  return madeOnce(cacheFolder(`modules/go-service-${key}`), async (temporary) => {
    const cache = path.join(temporary, 'cache')
    const project = path.join(temporary, 'project')
    await mkdir(project)
    for (const name of ['go.mod', 'go.sum']) {
      await cp(path.join(source, name), path.join(project, name))
    }
    await promisify(execFile)('go', ['mod', 'download'], {
      cwd: project,
      env: { ...process.env, GOMODCACHE: cache, GOFLAGS: '-modcacherw' },
    })
    // What the proxy's protocol serves, without locks and checksum database.
    await cp(path.join(cache, 'cache/download'), temporary, {
      recursive: true,
      filter: (file) => !file.endsWith('.lock') && path.basename(file) !== 'sumdb',
    })
    await rm(cache, { recursive: true })
    await rm(project, { recursive: true })
  })
}
