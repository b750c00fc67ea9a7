/** What a check finds: everything that `hearth doctor` says is one of these. */

export type Finding =
  | { readonly state: 'ok'; readonly found: string }
  /** Something works less well, or is wanted by few. */
  | { readonly state: 'warning'; readonly found: string; readonly fix: string }
  | { readonly state: 'problem'; readonly found: string; readonly fix: string }

export interface Check {
  readonly name: string
  /** `client`: needed to build from here. `node`: needed to be a builder node (`hearth up`). */
  readonly needed: 'client' | 'node'
  run(options: { signal: AbortSignal }): Promise<Finding>
}

export type CheckResult = Pick<Check, 'name' | 'needed'> & Finding

/** Runs all at once; a check that fails is a problem by itself. */
export function runChecks(
  checks: readonly Check[],
  options: { signal: AbortSignal },
): Promise<CheckResult[]> {
  return Promise.all(
    checks.map(async ({ name, needed, run }) => ({
      name,
      needed,
      ...(await runOne(run, options)),
    })),
  )
}

async function runOne(run: Check['run'], options: { signal: AbortSignal }): Promise<Finding> {
  const { HearthError } = await import('../../core/errors.ts')
  try {
    return await run(options)
  } catch (error) {
    if (!(error instanceof HearthError)) throw error
    return { state: 'problem', found: error.message, fix: error.hint ?? 'see above' }
  }
}
