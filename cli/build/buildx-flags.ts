/**
 * What Hearth knows about the flags of `buildx build` and `buildx bake` (0.38): only whether one takes a
 * value, so that a value is never taken for a flag or for the context. buildx itself reads them.
 */

export type BuildxVerb = 'build' | 'bake'

/** Flags without a value. */
const switches: Record<BuildxVerb, readonly string[]> = {
  build: [
    'check',
    'load',
    'no-cache',
    'pull',
    'push',
    'quiet',
    'compress',
    'squash',
    'rm',
    'force-rm',
  ],
  bake: ['check', 'load', 'no-cache', 'print', 'pull', 'push', 'list-targets', 'list-variables'],
}

const switchesOfBoth = ['debug', 'help']

const valued: Record<BuildxVerb, readonly string[]> = {
  build: [
    ...['add-host', 'allow', 'annotation', 'attest', 'build-arg', 'build-context', 'cache-from'],
    ...[
      'cache-to',
      'call',
      'cgroup-parent',
      'file',
      'iidfile',
      'label',
      'metadata-file',
      'network',
    ],
    ...['no-cache-filter', 'output', 'platform', 'policy', 'progress', 'provenance', 'resource'],
    ...['sbom', 'secret', 'shm-size', 'ssh', 'tag', 'target', 'ulimit', 'print', 'memory'],
    ...['memory-swap', 'cpu-shares', 'cpu-period', 'cpu-quota', 'cpuset-cpus', 'cpuset-mems'],
    ...['isolation', 'security-opt'],
  ],
  bake: [
    ...['allow', 'call', 'file', 'jobs', 'list', 'metadata-file', 'policy', 'progress'],
    ...['provenance', 'sbom', 'set', 'var'],
  ],
}

const shorthands: Record<BuildxVerb, Readonly<Record<string, string>>> = {
  build: { f: 'file', o: 'output', t: 'tag', q: 'quiet', m: 'memory', c: 'cpu-shares' },
  bake: { f: 'file', j: 'jobs' },
}

const shorthandsOfBoth: Readonly<Record<string, string>> = { h: 'help', D: 'debug' }

/** Long names, without dashes. */
export function knownFlags(verb: BuildxVerb): string[] {
  return [...switches[verb], ...switchesOfBoth, ...valued[verb]]
}

/** Undefined: Hearth does not know the flag. */
export function takesValue(verb: BuildxVerb, name: string): boolean | undefined {
  if (switches[verb].includes(name) || switchesOfBoth.includes(name)) return false
  return valued[verb].includes(name) ? true : undefined
}

/** The long name of a one-letter flag. */
export function longName(verb: BuildxVerb, letter: string): string | undefined {
  return shorthands[verb][letter] ?? shorthandsOfBoth[letter]
}
