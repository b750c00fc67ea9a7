/** A whole Hearth on the machine of an outer network, listening on all of the machine's addresses. */
import { mkdir } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import {
  type CommandResult,
  createTemporaryFolder,
  runTimed,
  startProcess,
} from '../harness/index.ts'
import type { Namespace } from './outer-network.ts'

export interface HearthInside extends AsyncDisposable {
  /** The coordinator's, and the ports that the node listens on. */
  readonly ports: readonly number[]
  readonly dataFolder: string
  /** `hearth build`, by a client on the same machine. Never throws for a build that fails. */
  build(project: string, args: readonly string[], env?: NodeJS.ProcessEnv): Promise<CommandResult>
}

const launcher = fileURLToPath(new URL('../../cli/launcher.cjs', import.meta.url))

/** Nobody else listens in the namespace. */
const coordinatorPort = 7700

export async function startHearthInside(machine: Namespace): Promise<HearthInside> {
  await using cleanUp = new AsyncDisposableStack()
  const folder = cleanUp.use(await createTemporaryFolder('attack')).path
  const own = path.join(folder, 'home')
  const dataFolder = path.join(folder, 'data')
  await mkdir(own)
  const env: NodeJS.ProcessEnv = {
    ...process.env,
    XDG_CONFIG_HOME: path.join(own, 'config'),
    XDG_STATE_HOME: path.join(own, 'state'),
    HEARTH_CONFIG: path.join(own, 'config.json'),
    DOCKER_CONFIG: path.join(own, 'docker'),
    BUILDX_CONFIG: path.join(own, 'buildx'),
    HEARTH_DATA: dataFolder,
  }
  for (const name of ['HEARTH_COORDINATOR', 'HEARTH_TOKEN', 'HEARTH_CA', 'HEARTH_PROJECT']) {
    delete env[name]
  }
  const inside = (args: readonly string[]) => ({
    command: 'nsenter',
    args: [`--net=${machine.path}`, '--', process.execPath, launcher, ...args],
  })
  const options = ['--host', '0.0.0.0', '--port', `${coordinatorPort}`, '--slots', '4']
  const up = cleanUp.use(
    await startProcess({
      ...inside(['up', '--foreground', '--json', ...options]),
      env,
      ready: (started) => /"state": ?"up"/.test(started.output()),
      readyWithinMs: 60_000,
    }),
  )
  const ports = await listening(machine, up.pid)
  const owned = cleanUp.move()
  return {
    ports,
    dataFolder,
    build(project, args, more = {}) {
      const { command, args: words } = inside([
        ...['build', '--project', project, '--progress', 'plain'],
        ...args,
      ])
      return runTimed(command, words, { env: { ...env, ...more } })
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

/** TCP ports of one process. */
async function listening(machine: Namespace, pid: number): Promise<number[]> {
  const { stdout } = await machine.run('ss', ['--listening', '--tcp', '--numeric', '--processes'])
  const ports = stdout
    .split('\n')
    .filter((line) => line.includes(`pid=${pid},`))
    .map((line) => Number(/:(\d+)\s/.exec(line)?.[1]))
  return [...new Set(ports)]
}
