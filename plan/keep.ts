/** The last plan of each project and platform on this machine, to tell what has changed since. */
import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, rm, stat } from 'node:fs/promises'
import path from 'node:path'
import { z } from 'zod'
import { isDigest } from '../core/digest.ts'
import { writeFileDurably } from '../core/format-version.ts'
import type { Plan } from './plan.ts'

/** Raised when a plan is kept in another form; what has another one is forgotten. */
const keptForm = 1

const plansMax = 200

export interface KeptPlanKey {
  readonly project: string
  readonly platform: string
  /** Tells apart what one project builds: context, Dockerfile, target. */
  readonly build: string
}

/** Undefined when none is kept, or what is kept cannot be read. */
export async function loadPlan(folder: string, key: KeptPlanKey): Promise<Plan | undefined> {
  try {
    const content: unknown = JSON.parse(await readFile(planFile(folder, key), 'utf8'))
    return keptShape.parse(content).plan
  } catch {
    return undefined
  }
}

/** @throws the error of the file system. */
export async function savePlan(folder: string, key: KeptPlanKey, plan: Plan): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 })
  await writeFileDurably(planFile(folder, key), JSON.stringify({ form: keptForm, plan }))
  await removeOldest(folder)
}

function planFile(folder: string, { project, platform, build }: KeptPlanKey): string {
  const hash = createHash('sha256')
    .update(JSON.stringify([platform, build]))
    .digest('hex')
  return path.join(folder, `${project}-${hash.slice(0, 16)}.json`)
}

async function removeOldest(folder: string): Promise<void> {
  const names = (await readdir(folder)).filter((name) => name.endsWith('.json'))
  if (names.length <= plansMax) return
  const aged = await Promise.all(
    names.map(async (name) => {
      const file = path.join(folder, name)
      return { file, atMs: (await stat(file).catch(() => undefined))?.mtimeMs ?? 0 }
    }),
  )
  aged.sort((a, b) => b.atMs - a.atMs)
  for (const { file } of aged.slice(plansMax)) await rm(file, { force: true })
}

const digestShape = z.string().refine(isDigest)
const keyShape = digestShape.optional()

const stepShape = z.object({
  key: keyShape,
  name: z.string(),
  source: z.object({ file: z.string(), firstLine: z.number(), lastLine: z.number() }).optional(),
  platform: z.string(),
  operationDigest: digestShape,
  inputs: z.array(digestShape),
  images: z.array(z.object({ reference: z.string(), digest: z.string().optional() })),
  cacheMounts: z.array(
    z.object({ id: z.string(), sharing: z.enum(['shared', 'private', 'locked']) }),
  ),
  ignoresCache: z.boolean(),
  recognizable: z.boolean(),
  doubt: z.enum(['none', 'content', 'source']),
  facts: z.array(
    z.object({
      kind: z.enum([
        ...(['instruction', 'variable', 'file', 'image', 'mount', 'source'] as const),
        ...(['document', 'option'] as const),
      ]),
      name: z.string(),
      value: z.string(),
    }),
  ),
})

/** Reasons are said when a plan is made, not when it is compared. */
const keptShape = z.object({
  form: z.literal(keptForm),
  plan: z.object({ platform: z.string(), steps: z.array(stepShape) }).transform(
    ({ platform, steps }): Plan => ({
      platform,
      partial: [],
      contents: {},
      steps: steps.map((step) => ({
        ...step,
        key: step.key,
        source: step.source,
        images: step.images.map(({ reference, digest }) => ({ reference, digest })),
      })),
    }),
  ),
})
