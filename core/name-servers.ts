/** The name servers that builds can ask: those of the machine that are neither on its loopback nor IPv6. */
import { readFile } from 'node:fs/promises'
import { isIPv4 } from 'node:net'
import { hasErrno } from './errors.ts'

export interface Resolver {
  /** A resolv.conf(5) for builds. Undefined: the machine has none. */
  readonly content: string | undefined
  /** IPv4 addresses; none means that builds cannot look names up. */
  readonly nameServers: readonly string[]
}

const resolvConf = '/etc/resolv.conf'

/** Where systemd-resolved names the servers behind its own, which listens on loopback. */
const behindResolved = '/run/systemd/resolve/resolv.conf'

export async function readResolver(): Promise<Resolver> {
  return chooseResolver(await readIfThere(resolvConf), await readIfThere(behindResolved))
}

/**
 * Builds have a loopback interface of their own, and no IPv6.
 * @param own what the machine's programs use. @param behind systemd-resolved's own servers.
 */
export function chooseResolver(own: string | undefined, behind: string | undefined): Resolver {
  if (own === undefined) return { content: undefined, nameServers: [] }
  const chosen = reachable(own).length === 0 && behind !== undefined ? behind : own
  const nameServers = reachable(chosen)
  const options = chosen.split('\n').filter((line) => /^\s*(search|domain|options)\s/.test(line))
  const lines = [...nameServers.map((address) => `nameserver ${address}`), ...options]
  return { content: `${lines.join('\n')}\n`, nameServers }
}

function reachable(content: string): string[] {
  return [...content.matchAll(/^\s*nameserver\s+(\S+)/gm)].flatMap(([, address = '']) =>
    isIPv4(address) && !/^(127|0)\./.test(address) ? [address] : [],
  )
}

async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return undefined
    throw error
  }
}
