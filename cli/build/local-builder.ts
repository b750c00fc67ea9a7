/** The builder that plain buildx would use on this machine: the last resort when no node can be reached. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

export interface LocalBuilder {
  readonly name: string
  readonly driver: string
}

// Loading the state of builders that do not answer takes buildx up to its own limit of 20 s.
const lookUpMs = 10_000

/** @returns undefined when the user's current builder does not work, or there is none. */
export async function findLocalBuilder(
  buildx: string,
  env: NodeJS.ProcessEnv,
  options: { signal: AbortSignal },
): Promise<LocalBuilder | undefined> {
  let lines: string
  try {
    const { stdout } = await promisify(execFile)(buildx, ['ls', '--format', 'json'], {
      env,
      signal: options.signal,
      timeout: lookUpMs,
      encoding: 'utf8',
    })
    lines = stdout
  } catch {
    return undefined
  }
  const builders = lines.split('\n').flatMap(parseBuilder)
  const chosen = env.BUILDX_BUILDER
  const current = builders.find((builder) => (chosen ? builder.name === chosen : builder.current))
  if (current === undefined || !current.works) return undefined
  return { name: current.name, driver: current.driver }
}

/** One line of `buildx ls --format json`, with the fields that commands/ls.go of buildx 0.38 writes. */
function parseBuilder(line: string) {
  if (line.trim() === '') return []
  try {
    const builder = JSON.parse(line) as Record<string, unknown>
    const name = typeof builder.Name === 'string' ? builder.Name : ''
    const driver = typeof builder.Driver === 'string' ? builder.Driver : ''
    const works = driver !== '' && !builder.Err
    return [{ name, driver, works, current: builder.Current === true }]
  } catch {
    return []
  }
}
