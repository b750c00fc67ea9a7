/** buildx straight to a BuildKit, with a configuration of its own: how a build runs without Hearth. */
import path from 'node:path'
import { findProgram } from '../../core/programs.ts'
import { type CommandResult, runTimed } from './commands.ts'
import { createTemporaryFolder } from './temporary-folder.ts'

export interface BuildxClient extends AsyncDisposable {
  /** For whoever starts buildx otherwise: with it, its configuration and builder are these. */
  readonly env: NodeJS.ProcessEnv
  /** `buildx build` with plain progress on standard error. Never throws for a build that fails. */
  build(args: readonly string[], options?: { cwd?: string }): Promise<CommandResult>
  /** Any other command of buildx, with this configuration and builder. */
  run(args: readonly string[], options?: { cwd?: string }): Promise<CommandResult>
}

/** @param endpoint `unix:///…` or `tcp://…` of a BuildKit. */
export async function createBuildxClient(endpoint: string): Promise<BuildxClient> {
  await using cleanUp = new AsyncDisposableStack()
  const folder = cleanUp.use(await createTemporaryFolder('buildx'))
  const program = await findProgram('buildx')
  const env = {
    ...process.env,
    BUILDX_CONFIG: path.join(folder.path, 'buildx'),
    DOCKER_CONFIG: path.join(folder.path, 'docker'),
    BUILDX_BUILDER: 'direct',
  }
  const create = ['create', '--name', env.BUILDX_BUILDER, '--driver', 'remote', endpoint]
  const created = await runTimed(program, create, { env })
  if (created.exitCode !== 0) throw new Error(`buildx takes no ${endpoint}: ${created.stderr}`)
  const run: BuildxClient['run'] = (args, options) => runTimed(program, args, { env, ...options })
  const owned = cleanUp.move()
  return {
    env,
    run,
    build: (args, options) => run(['build', '--progress', 'plain', ...args], options),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}
