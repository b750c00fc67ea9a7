/** What builds may reach of the network, for all daemons of a pool, and kept up to date in those that run. */
import { writeFile } from 'node:fs/promises'
import { describeError } from '../../../core/errors.ts'
import type { Logger } from '../../../core/log.ts'
import type { Resolver } from '../../../core/name-servers.ts'
import { parseDestination } from './destinations.ts'
import { metadataRanges, type NetworkPolicy } from './firewall.ts'
import { allEnded, type NamespaceLink } from './network-namespace.ts'

export interface NetworkPolicies {
  /** With the name servers that the machine has now. */
  current(): Promise<{ policy: NetworkPolicy; resolver: Resolver }>
  /** Keeps a running daemon's link and resolver file up to date; once disposed, nothing of that goes on. */
  follow(link: NamespaceLink, resolverFile: string): AsyncDisposable
  /** See DaemonPool. */
  deny(destinations: readonly string[]): Promise<void>
  reach(ports: readonly number[]): Promise<void>
  /** Tells running daemons when the machine has other name servers than before. Never rejects. */
  refresh(): Promise<void>
}

/**
 * @param deps.resolver how the machine looks names up now.
 * @throws HearthError `invalid-input`
 */
export async function createNetworkPolicies(
  deps: { log: Logger; resolver: () => Promise<Resolver> },
  options: { deny: readonly string[]; reach: readonly number[] },
): Promise<NetworkPolicies> {
  const followers = new Set<{ link: NamespaceLink; resolverFile: string }>()
  let denied = parseAll(options.deny)
  let reach = options.reach
  let resolver = await deps.resolver()
  warnWithoutNames()

  function warnWithoutNames(): void {
    if (resolver.nameServers.length > 0) return
    deps.log.warn(
      'builds cannot look names up: /etc/resolv.conf has no IPv4 name server beyond loopback',
    )
  }

  const policy = (): NetworkPolicy => ({
    denied: [...parseAll(metadataRanges), ...denied],
    reach,
    nameServers: resolver.nameServers,
  })

  let applied: Promise<unknown> = Promise.resolve()
  /** One change after another, so that the last one holds. */
  function applyToAll(): Promise<void> {
    const work = async (): Promise<void> => {
      await allEnded([...followers].map(({ link }) => link.apply(policy())))
    }
    const result = applied.then(work)
    applied = result.catch(() => {})
    return result
  }

  async function followMachine(): Promise<void> {
    const found = await deps.resolver()
    if (found.content === resolver.content) return
    resolver = found
    warnWithoutNames()
    // In place: it is the mounted file itself that daemons see.
    await Promise.all(
      [...followers].map(({ resolverFile }) => writeFile(resolverFile, found.content ?? '')),
    )
    await applyToAll()
  }

  const refresh = (): Promise<void> =>
    followMachine().catch((error: unknown) => {
      deps.log.warn({ error: describeError(error) }, 'could not tell daemons of new name servers')
    })

  return {
    async current() {
      await refresh()
      return { policy: policy(), resolver }
    },
    follow(link, resolverFile) {
      const follower = { link, resolverFile }
      followers.add(follower)
      return {
        async [Symbol.asyncDispose]() {
          followers.delete(follower)
          await applied
        },
      }
    },
    async deny(destinations) {
      denied = parseAll(destinations)
      await applyToAll()
    },
    async reach(ports) {
      reach = ports
      await applyToAll()
    },
    refresh,
  }
}

function parseAll(texts: readonly string[]) {
  return texts.flatMap((text) => parseDestination(text) ?? [])
}
