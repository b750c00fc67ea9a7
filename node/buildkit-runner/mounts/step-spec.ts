/** What runc is about to run, from the bundle that BuildKit has written (opencontainers runtime-spec, config.md). */
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { z } from 'zod'

const specShape = z.looseObject({
  process: z.looseObject({ args: z.array(z.string()), cwd: z.string() }),
  mounts: z.array(
    z.looseObject({
      destination: z.string(),
      source: z.string().optional(),
    }),
  ),
})

export interface StepSpec {
  readonly args: readonly string[]
  readonly folder: string
  readonly mounts: readonly { target: string; source: string }[]
}

/** @throws when the bundle is none. */
export async function readStepSpec(bundle: string): Promise<StepSpec> {
  const text = await readFile(path.join(bundle, 'config.json'), 'utf8')
  const { process, mounts } = specShape.parse(JSON.parse(text))
  return {
    args: process.args,
    folder: process.cwd,
    mounts: mounts.flatMap(({ destination, source }) =>
      source === undefined ? [] : [{ target: destination, source }],
    ),
  }
}
