/** The targets of a bake file as builds of their own, by way of `buildx bake --print`. */
import { z } from 'zod'
import { HearthError } from '../core/errors.ts'
import { type BuildxCommand, lastWords, runBuildx } from './buildx.ts'

const targetShape = z.object({
  context: z.string().default('.'),
  contexts: z.record(z.string(), z.string()).default({}),
  dockerfile: z.string().optional(),
  'dockerfile-inline': z.string().optional(),
  args: z.record(z.string(), z.string().nullable()).default({}),
  labels: z.record(z.string(), z.string().nullable()).default({}),
  target: z.string().optional(),
  platforms: z.array(z.string()).default([]),
  network: z.string().optional(),
  'no-cache': z.boolean().default(false),
  'no-cache-filter': z.array(z.string()).default([]),
  'extra-hosts': z.record(z.string(), z.string().nullable()).default({}),
  'shm-size': z.string().optional(),
  ulimits: z.array(z.string()).default([]),
  entitlements: z.array(z.string()).default([]),
  ssh: z.array(z.unknown()).default([]),
})

export interface BakeTarget {
  readonly name: string
  readonly context: string
  readonly platforms: readonly string[]
  readonly flags: readonly { readonly name: string; readonly value: string }[]
  /** Why it cannot be asked about by itself. */
  readonly obstacle: string | undefined
}

/**
 * The targets of a bake, each as the flags of a build.
 * @param args of `buildx bake`, files and targets and all.
 * @throws HearthError `invalid-input` when buildx does not take them, `cancelled`
 */
export async function askTargets(
  buildx: BuildxCommand,
  args: readonly string[],
  options: { signal: AbortSignal },
): Promise<BakeTarget[]> {
  const output = await runBuildx(buildx, ['bake', '--print', ...args], options)
  if (output.exitCode !== 0) throw new HearthError('invalid-input', lastWords(output.stderr))
  const parsed = z
    .object({ target: z.record(z.string(), targetShape).default({}) })
    .safeParse(readJson(output.stdout))
  if (!parsed.success) {
    throw new HearthError('invalid-input', 'what "buildx bake --print" printed is not understood', {
      cause: parsed.error,
    })
  }
  return Object.entries(parsed.data.target).map(([name, target]) => bakeTarget(name, target))
}

function bakeTarget(name: string, target: z.infer<typeof targetShape>): BakeTarget {
  const flags: { name: string; value: string }[] = []
  const add = (flag: string, value: string | undefined) => {
    if (value !== undefined) flags.push({ name: flag, value })
  }
  const addMap = (flag: string, map: Readonly<Record<string, string | null>>, separator = '=') => {
    for (const [key, value] of Object.entries(map)) {
      if (value !== null) add(flag, `${key}${separator}${value}`)
    }
  }
  const dockerfile = target.dockerfile
  // A bake file's path is relative to the context, the flag's to the current folder.
  add('file', dockerfile && joinContext(target.context, dockerfile))
  addMap('build-arg', target.args)
  addMap('build-context', target.contexts)
  addMap('label', target.labels)
  addMap('add-host', target['extra-hosts'], ':')
  add('target', target.target)
  add('network', target.network)
  add('shm-size', target['shm-size'])
  for (const value of target.ulimits) add('ulimit', value)
  for (const value of target.entitlements) add('allow', value)
  for (const value of target['no-cache-filter']) add('no-cache-filter', value)
  if (target['no-cache']) add('no-cache', 'true')
  const linked = Object.values(target.contexts).find((value) => value.startsWith('target:'))
  return {
    name,
    context: target.context,
    platforms: target.platforms,
    flags,
    obstacle: obstacleOf(linked, target['dockerfile-inline']),
  }
}

function obstacleOf(linked: string | undefined, inline: string | undefined): string | undefined {
  if (linked !== undefined) return `it builds on the result of another target (${linked})`
  return inline === undefined ? undefined : 'its Dockerfile is written in the bake file'
}

function joinContext(context: string, dockerfile: string): string {
  if (dockerfile.startsWith('/') || dockerfile.includes('://')) return dockerfile
  return `${context.replace(/\/$/, '')}/${dockerfile}`
}

function readJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
