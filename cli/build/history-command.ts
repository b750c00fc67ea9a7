/**
 * The command line as the build history keeps it. Values stay only where they cannot be secret: a build
 * argument, a cache credential or a password in a URL must never reach the coordinator.
 */
import type { BuildCommandLine, PassedFlag } from './command-line.ts'

const openValues = new Set([
  ...['call', 'file', 'iidfile', 'jobs', 'list', 'metadata-file', 'network', 'no-cache-filter'],
  ...['platform', 'print', 'progress', 'provenance', 'sbom', 'shm-size', 'tag', 'target', 'ulimit'],
])

/** For example `build --build-arg … --tag app:dev .` */
export function historyCommand(line: BuildCommandLine): string {
  const flags = line.flags.map(describeFlag)
  return [line.verb, ...flags, ...line.operands.map(withoutCredentials)].join(' ')
}

function describeFlag(flag: PassedFlag): string {
  const dashes = flag.name.length === 1 ? '-' : '--'
  if (flag.value === undefined) return `${dashes}${flag.name}`
  return `${dashes}${flag.name} ${openValues.has(flag.name) ? withoutCredentials(flag.value) : '…'}`
}

/** Without the user part and the query of a URL. */
export function withoutCredentials(text: string): string {
  const scheme = /^[a-z][a-z0-9+.-]*:\/\//i.exec(text)?.[0]
  if (scheme === undefined) return text
  const [beforeQuery = ''] = text.slice(scheme.length).split('?')
  const slash = beforeQuery.indexOf('/')
  const host = slash === -1 ? beforeQuery : beforeQuery.slice(0, slash)
  return (
    scheme + host.slice(host.lastIndexOf('@') + 1) + (slash === -1 ? '' : beforeQuery.slice(slash))
  )
}
