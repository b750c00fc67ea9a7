/** The registries that are mirrored: where they are, and what they are called in a path. */
import { HearthError } from '../../../../core/errors.ts'

export interface Upstream {
  /** As image names have it: "docker.io", "127.0.0.1:5000". */
  readonly host: string
  /** `https://…`; plain http for this machine's loopback alone, as BuildKit does. */
  readonly origin: string
  /** Path component of its mirror: the host without a colon, which no repository name can have. */
  readonly slug: string
}

const hostPattern =
  /^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*(?::\d{1,5})?$/

/** Docker's registry is not where its name says. */
const realHosts: Record<string, string> = { 'docker.io': 'registry-1.docker.io' }

/** @throws HearthError `invalid-input` */
export function parseUpstream(host: string): Upstream {
  if (!hostPattern.test(host) || host.length > 200) {
    throw new HearthError('invalid-input', `"${host.slice(0, 100)}" is no registry to mirror`, {
      hint: 'name a host as images do, such as "docker.io" or "registry.example.com:5000"',
    })
  }
  const name = host.replace(/:\d+$/, '')
  const isLoopback = name === 'localhost' || /^127(?:\.\d{1,3}){3}$/.test(name)
  return {
    host,
    origin: new URL(`${isLoopback ? 'http' : 'https'}://${realHosts[host] ?? host}`).origin,
    slug: host.replace(':', '_'),
  }
}
