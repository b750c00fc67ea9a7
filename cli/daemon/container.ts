/**
 * `hearth up` inside a privileged container, for people who are not root or not on Linux. Coordinator and
 * nodes listen on published ports that are the same inside and outside, so that what they say about
 * themselves is true in both places. Their data lies in a volume of the engine.
 */
import { createHash } from 'node:crypto'
import { cp, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { HearthError, hasErrno } from '../../core/errors.ts'
import { writeFileDurably } from '../../core/format-version.ts'
import { packageFolder, packageVersion } from '../../core/package-folder.ts'
import { dataClientFile } from '../client-file.ts'
import type { Terminal } from '../terminal.ts'
import { askEngine, type Engine, findEngine, followUntil, watchEngine } from './engine.ts'

export interface ContainerOptions {
  readonly folder: string
  /** Of the coordinator; the nodes take the next ones. */
  readonly port: number
  readonly nodes: number
  /** Further flags for the `hearth up` inside. */
  readonly flags: readonly string[]
}

export interface ContainerFacts {
  readonly engine: Engine['name']
  readonly container: string
  readonly address: string
}

const dataInside = '/var/lib/hearth'
const commandMs = 60_000
const stopSeconds = 60

/** @throws HearthError `environment` when there is no engine, or the container does not start. */
export async function upInContainer(
  terminal: Terminal,
  options: ContainerOptions,
  { signal }: { signal: AbortSignal },
): Promise<ContainerFacts & { readonly state: 'up' | 'already up' }> {
  const engine = await findEngine(terminal.env, { signal })
  if (engine === undefined) throw noWay()
  const container = containerName(options.folder)
  const address = `127.0.0.1:${options.port}`
  const facts = { engine: engine.name, container, address }
  if (await isRunning(engine, container, signal)) return { ...facts, state: 'already up' }

  const ask = (args: readonly string[]) => askEngine(engine, args, { signal, timeoutMs: commandMs })
  const image = await provideImage(terminal, engine, signal)
  await ask(['rm', '--force', container])
  const ports = Array.from({ length: 1 + options.nodes }, (_, index) => options.port + index)
  await ask([
    ...['run', '--detach', '--name', container, '--privileged'],
    // The node names itself by its host's name, and "localhost" leads to it inside and outside.
    ...['--hostname', 'localhost'],
    ...['--volume', `${container}:${dataInside}`],
    ...ports.flatMap((port) => ['--publish', `127.0.0.1:${port}:${port}`]),
    ...[image, 'up', '--foreground', '--json', '--data', dataInside],
    ...['--host', '0.0.0.0', '--port', `${options.port}`, ...options.flags],
  ])
  await followUntil(engine, container, (text) => /"state": ?"up"/.test(text), { signal })
  await mkdir(options.folder, { recursive: true, mode: 0o700 })
  const client = await ask(['exec', container, 'cat', `${dataInside}/client.json`])
  await writeFileDurably(dataClientFile(options.folder), client, 0o600)
  await writeFileDurably(containerFile(options.folder), JSON.stringify({ version: 1, ...facts }))
  return { ...facts, state: 'up' }
}

/** Stops the container that `hearth up` started over this folder. False: it had started none that runs. */
export async function stopContainer(
  terminal: Terminal,
  folder: string,
  { signal }: { signal: AbortSignal },
): Promise<boolean> {
  if (!(await hasContainer(folder))) return false
  const engine = await findEngine(terminal.env, { signal })
  const container = containerName(folder)
  if (engine === undefined || !(await isRunning(engine, container, signal))) return false
  const timeoutMs = (stopSeconds + 30) * 1000
  await askEngine(engine, ['stop', '--time', `${stopSeconds}`, container], { signal, timeoutMs })
  return true
}

function noWay(): HearthError {
  const what =
    process.platform === 'linux' ? 'a builder node needs root' : 'a builder node needs Linux'
  return new HearthError('environment', `${what}, or a container engine, and there is none`, {
    hint:
      process.platform === 'linux'
        ? 'run "sudo hearth up", or start Docker (a rootless engine is not enough)'
        : 'start Docker, or "hearth login" to a coordinator on another machine',
  })
}

/** The image of this very version, built from the package the first time. */
async function provideImage(
  terminal: Terminal,
  engine: Engine,
  signal: AbortSignal,
): Promise<string> {
  const image = `hearth-node:${packageVersion()}`
  const options = { signal, timeoutMs: commandMs }
  const found = await askEngine(engine, ['images', '--quiet', image], options)
  if (found.trim() !== '') return image
  terminal.note(`hearth: building the image ${image} for ${engine.name}, once`)
  const context = await mkdtemp(path.join(os.tmpdir(), 'hearth-image-'))
  try {
    const leftOut = ['node_modules', '.git', 'test', 'bench', 'docs']
    await cp(packageFolder(), context, {
      recursive: true,
      filter: (file) => !leftOut.includes(path.basename(file)),
    })
    const dockerfile = path.join(context, 'tools', 'container', 'Dockerfile')
    await watchEngine(engine, ['build', '--tag', image, '--file', dockerfile, context], { signal })
  } finally {
    await rm(context, { recursive: true, force: true })
  }
  return image
}

async function isRunning(engine: Engine, container: string, signal: AbortSignal): Promise<boolean> {
  const filters = ['--filter', `name=^${container}$`, '--filter', 'status=running']
  const found = await askEngine(engine, ['ps', '--quiet', ...filters], {
    signal,
    timeoutMs: commandMs,
  })
  return found.trim() !== ''
}

/** One per data folder, so that several people can have one each. */
function containerName(folder: string): string {
  return `hearth-${createHash('sha256').update(folder).digest('hex').slice(0, 12)}`
}

function containerFile(folder: string): string {
  return path.join(folder, 'container.json')
}

async function hasContainer(folder: string): Promise<boolean> {
  try {
    await readFile(containerFile(folder))
    return true
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return false
    throw error
  }
}
