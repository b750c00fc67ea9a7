/**
 * The life of `hearth exec`: a build is opened and placed as `hearth build` does, a command runs with an
 * endpoint that leads to the node, and the build ends with the command.
 */
import path from 'node:path'
import { findFailure } from '../build/find-failure.ts'
import { instanceName, writeInstance } from '../build/instance.ts'
import { keepStandby } from '../build/keep-standby.ts'
import { createPrivateFolder } from '../build/private-folder.ts'
import { findProject, readProjectFile } from '../build/project.ts'
import { reportBuild } from '../build/report-build.ts'
import { endingOf, findBuildx } from '../build/run-build.ts'
import { buildxEnvironment, runBuildx } from '../build/run-buildx.ts'
import type { BuildSite } from '../build/site.ts'
import { requireConnection } from '../connection.ts'
import { catchInterrupts } from '../interrupt.ts'
import { readLayers } from '../settings.ts'
import type { Terminal } from '../terminal.ts'
import { findCommand, historyOfCommand } from './command.ts'
import { serveEndpoint } from './endpoint.ts'
import { connectBuilder, connectNode, holdSlots } from './far-end.ts'

export interface ExecRequest {
  readonly command: readonly string[]
  /** "os/arch[/variant]" list; empty: the nodes' own. */
  readonly platforms: readonly string[]
  readonly own: { readonly project?: string; readonly data?: string }
  /** One document about the build on standard output, and the command's output on standard error. */
  readonly json: boolean
}

/** @returns the command's exit code once it has run. */
export async function runExec(request: ExecRequest, terminal: Terminal): Promise<number> {
  const [name = '', ...args] = request.command
  const { env } = terminal
  const [program, buildx] = await Promise.all([findCommand(name, terminal), findBuildx(terminal)])
  using interrupt = catchInterrupts()
  const { findSite } = await import('../build/site.ts')
  const file = await readProjectFile(terminal.folder)
  const layers = await readLayers(terminal, request.own, file === undefined ? [] : [file])
  const { project, origin } = await findProject(layers, terminal.folder)
  const connection = await requireConnection(terminal, layers)
  await using folder = await createPrivateFolder(env)
  await using site = await findSite(
    terminal,
    {
      connection,
      project,
      projectGuessed: origin.type === 'default',
      platforms: request.platforms,
      command: historyOfCommand(request.command),
      buildx,
    },
    { signal: interrupt.signal },
  )
  interrupt.signal.throwIfAborted()
  const keeping = keepStandby(env, site, { coordinator: connection.address, project })
  const end = await withEndpoint(site, { buildx, env, folder: folder.path }, (added) =>
    runBuildx({
      program,
      args,
      env: added,
      folder: terminal.folder,
      outputTo: request.json ? 2 : 1,
    }),
  )
  const durationMs = Math.round(performance.now())
  const ending = endingOf(end)
  const [build] = await Promise.all([site.finish(ending, durationMs), keeping])
  reportBuild(
    terminal,
    { quiet: false, json: request.json },
    {
      site,
      project: site.type === 'placed' ? site.project : project,
      ending,
      exitCode: end.exitCode,
      durationMs,
      build,
      failure: await findFailure(site, ending, build),
    },
  )
  return end.exitCode
}

/**
 * Runs with an environment in which BuildKit's own clients (BUILDKIT_HOST) and buildx (BUILDX_BUILDER) build
 * on the site. The endpoint is gone, and the slots are free, when it resolves.
 */
async function withEndpoint<Result>(
  site: BuildSite,
  options: { buildx: string; env: NodeJS.ProcessEnv; folder: string },
  run: (env: NodeJS.ProcessEnv) => Promise<Result>,
): Promise<Result> {
  const { buildx, env, folder } = options
  const socket = path.join(folder, 'buildkit.sock')
  if (site.type === 'local') {
    const { name } = site.builder
    await using endpoint = await serveEndpoint(socket, () => connectBuilder(buildx, name, env))
    return await run({ ...buildxEnvironment(env, undefined), BUILDKIT_HOST: endpoint.address })
  }
  const { nodes, privateKeyPem } = site
  const [first] = nodes
  if (first === undefined) throw new Error('a site without nodes')
  const config = await writeInstance(folder, nodes, privateKeyPem, env)
  using _slots = holdSlots(nodes, privateKeyPem)
  await using endpoint = await serveEndpoint(socket, () => connectNode(first, privateKeyPem))
  return await run({
    ...buildxEnvironment(env, config),
    BUILDKIT_HOST: endpoint.address,
    BUILDX_BUILDER: instanceName,
  })
}
