/** `hearth plan`: what a build would do, step by step, and what differs from the last plan. Nothing is built. */
import path from 'node:path'
import { HearthError } from '../../core/errors.ts'
import { lookUpProgram } from '../../core/programs.ts'
import {
  describeDifference,
  describePartial,
  type Explanation,
  explain,
  type KeptPlanKey,
  loadPlan,
  type Plan,
  type PlannedStep,
  savePlan,
} from '../../plan/index.ts'
import { checkContext, checkFlags } from '../build/check-input.ts'
import { type BuildCommandLine, isOn, readCommandLine, valuesOf } from '../build/command-line.ts'
import { createPrivateFolder } from '../build/private-folder.ts'
import { findProject, readProjectFile } from '../build/project.ts'
import { findConnection } from '../connection.ts'
import { exitCodes } from '../exit-codes.ts'
import { stateFolder } from '../folders.ts'
import { catchInterrupts } from '../interrupt.ts'
import { type MadePlans, makePlans } from '../plan/make-plans.ts'
import { findPlannerSite } from '../plan/planner-site.ts'
import { readLayers } from '../settings.ts'
import { formatTable } from '../table.ts'
import { answer, type Terminal, type Verb } from '../terminal.ts'
import { formatDuration } from '../units.ts'

export const verb: Verb = { run: planBuild }

async function planBuild(args: readonly string[], terminal: Terminal): Promise<number> {
  const line = readCommandLine('build', args)
  if (isOn(line, 'help')) {
    terminal.print(`${help}\n`)
    return exitCodes.ok
  }
  const buildx = await lookUpProgram('buildx', terminal.env)
  if (buildx === undefined) {
    throw new HearthError('environment', 'buildx is not on this machine', {
      hint: 'run "hearth doctor --fix", or name it in HEARTH_BUILDX',
    })
  }
  const [context] = await Promise.all([
    checkContext(line, terminal.folder),
    checkFlags(line, buildx),
  ])
  const contextFolder = context.type === 'folder' ? context.path : terminal.folder
  const file = (await readProjectFile(contextFolder)) ?? (await readProjectFile(terminal.folder))
  const layers = await readLayers(terminal, line.own, file === undefined ? [] : [file])
  const { project } = await findProject(
    layers,
    context.type === 'url' ? context.url : contextFolder,
  )

  using interrupt = catchInterrupts()
  await using folder = await createPrivateFolder(terminal.env)
  const connection = await findConnection(terminal, layers)
  const site = await findPlannerSite(
    terminal,
    { connection, project, buildx, folder: folder.path },
    interrupt,
  )
  const startedAtMs = performance.now()
  const made = await makePlans(
    {
      line,
      platforms: valuesOf(line, 'platform').flatMap((value) => value.split(',')),
      buildx: { program: buildx, env: site.env, folder: terminal.folder, builder: site.builder },
    },
    terminal.env,
    interrupt,
  )
  const durationMs = Math.round(performance.now() - startedAtMs)
  const compared = await Promise.all(
    made.plans.map((plan) =>
      compareWithLast(plan, keyOf(line, project, contextFolder, plan), terminal),
    ),
  )
  const about = { project, planner: site.name, durationMs }
  answer(terminal, { json: line.json }, documentOf(about, made, compared), linesOf(about, compared))
  return exitCodes.ok
}

interface About {
  readonly project: string
  readonly planner: string
  readonly durationMs: number
}

interface Compared {
  readonly plan: Plan
  /** The last one that was made here. */
  readonly before: Plan | undefined
  readonly explanation: Explanation | undefined
}

function keyOf(
  line: BuildCommandLine,
  project: string,
  contextFolder: string,
  { platform }: Plan,
): KeptPlanKey {
  const [file, target] = ['file', 'target'].map((name) => valuesOf(line, name).at(-1) ?? '')
  return { project, platform, build: JSON.stringify([contextFolder, file, target]) }
}

async function compareWithLast(
  plan: Plan,
  key: KeptPlanKey,
  terminal: Terminal,
): Promise<Compared> {
  const folder = path.join(stateFolder(terminal.env), 'plan', 'last')
  const before = await loadPlan(folder, key)
  if (plan.steps.length > 0) {
    // A read-only home: the next plan is compared with an older one.
    await savePlan(folder, key, plan).catch(() => {})
  }
  return { plan, before, explanation: before && explain(before, plan) }
}

function linesOf(about: About, all: readonly Compared[]): string[] {
  return all.flatMap((compared, index) => [
    ...(index === 0 ? [] : ['']),
    headline(about, compared),
    ...stepLines(compared),
    ...compared.plan.partial.map((reason) => `The plan is partial: ${describePartial(reason)}.`),
    ...differenceLines(compared),
  ])
}

function headline({ project, planner, durationMs }: About, { plan }: Compared): string {
  const platform = plan.platform === '' ? '' : ` for ${plan.platform}`
  const took = formatDuration(durationMs)
  return `Project ${project}${platform}: ${plan.steps.length} steps, planned by ${planner} in ${took}`
}

function stepLines({ plan, before }: Compared): string[] {
  if (plan.steps.length === 0) return []
  const known = new Set(before?.steps.map(({ key }) => key))
  return formatTable<PlannedStep>(
    [
      { title: 'LINE', value: placeOf },
      { title: 'STEP', value: ({ name }) => shorten(name) },
      {
        title: 'KEY',
        value: ({ key }) => key?.slice('sha256:'.length, 'sha256:'.length + 12) ?? '-',
      },
      { title: 'SINCE THE LAST PLAN', value: (step) => sinceLast(step, before && known) },
    ],
    plan.steps,
  )
}

function placeOf({ source }: PlannedStep): string {
  return source === undefined ? '-' : `${source.file}:${source.firstLine}`
}

const nameCharactersMax = 60

function shorten(name: string): string {
  const line = name.replaceAll(/\s+/g, ' ')
  return line.length > nameCharactersMax ? `${line.slice(0, nameCharactersMax - 1)}…` : line
}

function sinceLast(step: PlannedStep, known: ReadonlySet<string | undefined> | undefined): string {
  if (step.ignoresCache) return 'runs: no cache is wanted'
  if (!step.recognizable) return 'runs in every build'
  if (step.key === undefined) return 'unknown'
  if (known === undefined) return '-'
  if (known.has(step.key)) return 'same'
  return step.doubt === 'content' ? 'new, unless what it copies is the same' : 'new'
}

function differenceLines({ explanation }: Compared): string[] {
  if (explanation === undefined) return ['No earlier plan of this build is known here.']
  if (explanation.type === 'same') return ['Nothing has changed since the last plan.']
  const { step, before, differences } = explanation
  const what =
    differences.length > 0
      ? differences.slice(0, differencesShown).map(describeDifference)
      : [before === undefined ? 'the step is new here' : 'what it stands on was changed']
  const more = differences.length - differencesShown
  return [
    `First difference: ${placeOf(step)} ${shorten(step.name)}`,
    ...what.map((text) => `  ${text}`),
    ...(more > 0 ? [`  and ${more} more`] : []),
  ]
}

const differencesShown = 8

function documentOf(about: About, made: MadePlans, all: readonly Compared[]) {
  return {
    ...about,
    files: made.count.files,
    filesRead: made.count.filesRead,
    bytesRead: made.count.bytesRead,
    plans: all.map(({ plan, before, explanation }) => {
      const known = new Set(before?.steps.map(({ key }) => key))
      return {
        platform: plan.platform,
        partial: plan.partial.map((reason) => ({ ...reason, text: describePartial(reason) })),
        steps: plan.steps.map(({ facts: _, ...step }) => ({
          ...step,
          sameAsLast: before === undefined ? undefined : known.has(step.key),
        })),
        difference: explanation === undefined ? undefined : differenceDocument(explanation),
      }
    }),
  }
}

function differenceDocument(explanation: Explanation) {
  if (explanation.type === 'same') return explanation
  const { step, before, differences } = explanation
  return {
    type: explanation.type,
    step: step.name,
    dockerfile: step.source?.file,
    firstLine: step.source?.firstLine,
    before: before?.name,
    differences: differences.map((one) => ({ ...one, text: describeDifference(one) })),
  }
}

const help = [
  'Usage: hearth plan [FLAGS] PATH|URL',
  '',
  'Says what a build would do, without building: each step with its line in the Dockerfile and its key, and',
  'what the first step that differs from the last plan differs in. Takes any flag of "hearth build".',
  '',
  '      --project NAME   the project that the build belongs to (HEARTH_PROJECT, hearth.json)',
  '      --data DIR       use the coordinator whose data folder this is (HEARTH_DATA)',
  '      --json           print one JSON document',
].join('\n')
