/**
 * The life of a build as the client drives it: find its project, open it, wait for its place, let buildx
 * build, finish it, and say in a few lines what it took, or why it failed.
 *
 * Whatever goes wrong around the build (no report, no standby kept) never fails the build.
 */
import type { Layers } from '../../core/config.ts'
import { HearthError } from '../../core/errors.ts'
import { lookUpProgram } from '../../core/programs.ts'
import { requireConnection } from '../connection.ts'
import { catchInterrupts } from '../interrupt.ts'
import { readLayers } from '../settings.ts'
import type { Terminal } from '../terminal.ts'
import { createBuildPlan } from './build-plan.ts'
import type { BuildxVerb } from './buildx-flags.ts'
import { type Context, checkContext, checkFlags } from './check-input.ts'
import { type BuildCommandLine, isOn, readCommandLine, valuesOf } from './command-line.ts'
import { findFailure } from './find-failure.ts'
import { historyCommand } from './history-command.ts'
import { instanceName, writeInstance } from './instance.ts'
import { keepStandby } from './keep-standby.ts'
import { createPrivateFolder } from './private-folder.ts'
import { findProject, readProjectFile } from './project.ts'
import { reportBuild } from './report-build.ts'
import { type BuildxEnd, buildxEnvironment, runBuildx } from './run-buildx.ts'
import type { BuildEnding } from './summary.ts'

/** @returns buildx's exit code once buildx has run. */
export async function runBuild(
  verb: BuildxVerb,
  args: readonly string[],
  terminal: Terminal,
): Promise<number> {
  const line = readCommandLine(verb, args)
  refuseMixedOutput(line)
  const buildx = await findBuildx(terminal)
  if (isOn(line, 'help')) terminal.print(`${ownHelp(verb)}\n\n`)
  if (needsNoNode(line)) return (await startBuildx(line, terminal, buildx, undefined)).exitCode
  const [context] = await Promise.all([
    checkContext(line, terminal.folder),
    checkFlags(line, buildx),
  ])

  using interrupt = catchInterrupts()
  // Loading gRPC is the longest part of the way to the first step; files are read meanwhile.
  const [{ findSite }, { layers, project, guessed }] = await Promise.all([
    import('./site.ts'),
    findProjectOf(line, context, terminal),
  ])
  const connection = await requireConnection(terminal, layers)
  await using folder = await createPrivateFolder(terminal.env)
  const platforms = platformsOf(line, terminal.env)
  const contextSource = sourceOf(context, terminal)
  const plan = createBuildPlan(terminal, {
    line,
    buildx,
    context: contextSource,
    folder: folder.path,
  })
  await using site = await findSite(
    terminal,
    {
      connection,
      project,
      projectGuessed: guessed,
      platforms,
      command: historyCommand(line),
      buildx,
      plan: plan.before,
    },
    { signal: interrupt.signal },
  )
  interrupt.signal.throwIfAborted()
  const buildxConfig =
    site.type === 'local'
      ? undefined
      : await writeInstance(folder.path, site.nodes, site.privateKeyPem, terminal.env)
  const running = startBuildx(line, terminal, buildx, buildxConfig)
  const ended = new AbortController()
  const keeping = Promise.all([
    keepStandby(terminal.env, site, { coordinator: connection.address, project }),
    plan.beside(site, { buildEnded: ended.signal }),
  ])
  const end = await running.finally(() => ended.abort())
  const durationMs = Math.round(performance.now())
  const ending = endingOf(end)
  const [build] = await Promise.all([site.finish(ending, durationMs), keeping])
  reportBuild(
    terminal,
    { quiet: isQuiet(line), json: line.json },
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

/** @throws HearthError `environment` */
export async function findBuildx(terminal: Terminal): Promise<string> {
  const buildx = await lookUpProgram('buildx', terminal.env)
  if (buildx !== undefined) return buildx
  throw new HearthError('environment', 'buildx is not on this machine', {
    hint: 'run "hearth doctor --fix", or name it in HEARTH_BUILDX',
  })
}

/** What stands before buildx's own help. */
function ownHelp(verb: BuildxVerb): string {
  return [
    `hearth ${verb}: docker buildx ${verb} on Hearth's nodes. Its own flags are`,
    '',
    '      --project NAME   the project that the build belongs to (HEARTH_PROJECT, hearth.json)',
    '      --data DIR       use the coordinator whose data folder this is (HEARTH_DATA)',
    '      --json           print one JSON document about the build at its end',
    '',
    'All others, --builder excepted, are those of buildx:',
  ].join('\n')
}

/** Help, and what buildx answers from a bake file alone. */
function needsNoNode(line: BuildCommandLine): boolean {
  if (isOn(line, 'help')) return true
  const asksOnly = ['print', 'list', 'list-targets', 'list-variables']
  return line.verb === 'bake' && line.flags.some((flag) => asksOnly.includes(flag.name))
}

/** @throws HearthError `invalid-input` when two things would go to standard output. */
function refuseMixedOutput(line: BuildCommandLine): void {
  if (!line.json) return
  const outputs = [...valuesOf(line, 'output'), ...valuesOf(line, 'set')]
  if (!outputs.some((output) => output === '-' || /(^|,|=)dest=-(,|$)|=-$/.test(output))) return
  throw new HearthError('invalid-input', '--json and an output to "-" both use standard output', {
    hint: 'write the output to a file, or leave --json out',
  })
}

async function findProjectOf(
  line: BuildCommandLine,
  context: Context,
  terminal: Terminal,
): Promise<{ layers: Layers; project: string; guessed: boolean }> {
  const contextFolder = context.type === 'folder' ? context.path : terminal.folder
  const file = (await readProjectFile(contextFolder)) ?? (await readProjectFile(terminal.folder))
  const layers = await readLayers(terminal, line.own, file === undefined ? [] : [file])
  const { project, origin } = await findProject(layers, sourceOf(context, terminal))
  return { layers, project, guessed: origin.type === 'default' }
}

/** What is built: a folder, or an address. */
function sourceOf(context: Context, terminal: Terminal): string {
  if (context.type === 'url') return context.url
  return context.type === 'folder' ? context.path : terminal.folder
}

/** As buildx takes them: repeated or with commas, else from the environment. */
function platformsOf(line: BuildCommandLine, env: NodeJS.ProcessEnv): string[] {
  const set = valuesOf(line, 'set').flatMap((override) => {
    const [key = '', ...value] = override.split('=')
    return key.endsWith('.platform') || key.endsWith('.platform+') ? [value.join('=')] : []
  })
  const named = [...valuesOf(line, 'platform'), ...set]
  const standard = env.DOCKER_DEFAULT_PLATFORM
  const all = named.length > 0 || !standard ? named : [standard]
  const split = all.flatMap((value) => value.split(',')).map((platform) => platform.trim())
  // "local" is what the node itself is.
  return [...new Set(split)].filter((platform) => platform !== '' && platform !== 'local')
}

/** Whoever silenced buildx wants no summary either. */
function isQuiet(line: BuildCommandLine): boolean {
  const progress = valuesOf(line, 'progress').at(-1)
  return isOn(line, 'quiet') || progress === 'quiet' || progress === 'none'
}

function startBuildx(
  line: BuildCommandLine,
  terminal: Terminal,
  buildx: string,
  buildxConfig: string | undefined,
): Promise<BuildxEnd> {
  const builder = buildxConfig === undefined ? [] : ['--builder', instanceName]
  return runBuildx({
    program: buildx,
    args: [line.verb, ...builder, ...line.passed],
    env: buildxEnvironment(terminal.env, buildxConfig),
    folder: terminal.folder,
    outputTo: line.json ? 2 : 1,
  })
}

export function endingOf(end: BuildxEnd): BuildEnding {
  if (end.exitCode === 0) return 'succeeded'
  return end.cancelled ? 'cancelled' : 'failed'
}
