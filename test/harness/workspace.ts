/** A workload's own copy to build and change, with everything it needs from the network laid beside it. */
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { busyboxImage, goImage } from './base-images.ts'
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
  await using cleanUp = new AsyncDisposableStack()
  const folder = cleanUp.use(await createTemporaryFolder('go-service')).path
  await cp(path.join(workloads, 'go-service'), folder, { recursive: true })
  await pushImage(registryHost, 'busybox', '1', await busyboxImage())
  await pushImage(registryHost, 'golang', '1.26', await goImage())
  const modules = await goModules()

  const changed = path.join(folder, 'internal/api/health.go')
  const line = 'const Revision = "0"'
  const original = await readFile(changed, 'utf8')
  if (!original.includes(line)) throw new Error(`${changed} has lost the line that is changed`)
  let revision = 0
  const owned = cleanUp.move()
  return {
    folder,
    buildArgs: [
      ...['--build-arg', `IMAGES=${registryHost}`],
      ...['--build-arg', 'GOPROXY=file:///modules'],
      ...['--build-context', `modules=${modules}`],
      folder,
    ],
    async changeLine() {
      revision += 1
      const replacement = `const Revision = "${revision} of ${path.basename(folder)}"`
      await writeFile(changed, original.replace(line, replacement))
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
