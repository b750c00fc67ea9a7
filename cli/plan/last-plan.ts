/** The plan of the last build of its kind on this machine: what the next one is compared with. */
import path from 'node:path'
import { type KeptPlanKey, loadPlan, type Plan, savePlan } from '../../plan/index.ts'
import { type BuildCommandLine, valuesOf } from '../build/command-line.ts'
import { stateFolder } from '../folders.ts'

export interface PlannedBuild {
  readonly line: BuildCommandLine
  readonly project: string
  /** Folder or URL. */
  readonly context: string
}

/** Undefined when none is kept. */
export function loadLastPlan(
  env: NodeJS.ProcessEnv,
  build: PlannedBuild,
  platform: string,
): Promise<Plan | undefined> {
  return loadPlan(folderOf(env), keyOf(build, platform))
}

/** Never throws: without a kept plan only a comparison is lost. */
export async function saveLastPlans(
  env: NodeJS.ProcessEnv,
  build: PlannedBuild,
  plans: readonly Plan[],
): Promise<void> {
  for (const plan of plans) {
    if (plan.steps.length === 0) continue
    await savePlan(folderOf(env), keyOf(build, plan.platform), plan).catch(() => {})
  }
}

function folderOf(env: NodeJS.ProcessEnv): string {
  return path.join(stateFolder(env), 'plan', 'last')
}

function keyOf({ line, project, context }: PlannedBuild, platform: string): KeptPlanKey {
  const [file, target] = ['file', 'target'].map((name) => valuesOf(line, name).at(-1) ?? '')
  return { project, platform, build: JSON.stringify([context, file, target]) }
}
