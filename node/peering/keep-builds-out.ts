/**
 * Keeps builds from the ports through which Hearth's machines talk to each other: this node's, and those of every
 * member as it becomes known. Certificates guard them as well; a build need not even try.
 */
import { lookup } from 'node:dns/promises'
import { isIPv4, isIPv6 } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { describeError } from '../../core/errors.ts'
import type { Logger } from '../../core/log.ts'
import { type HostAndPort, parseHostAndPort, parseMeshAddress } from '../../mesh/addresses.ts'
import type { Membership, MeshHost } from '../../mesh/index.ts'
import type { DaemonPool } from '../buildkit-runner/daemon/index.ts'

export interface KeepBuildsOutOptions {
  /** Of this node and its coordinator: "host:port", or multiaddresses. */
  always: readonly string[]
  /** How long changes gather. Default 500. */
  gatherMs?: number
  /** How often names are looked up again. Default 10 minutes. */
  lookUpMs?: number
}

/** Resolves when what is known by now is denied. */
export async function keepBuildsOut(
  deps: {
    host: Pick<MeshHost, 'members' | 'onMember'>
    daemons: Pick<DaemonPool, 'deny'>
    log: Logger
  },
  options: KeepBuildsOutOptions,
): Promise<AsyncDisposable> {
  const { host, daemons, log } = deps
  const stopping = new AbortController()
  /** A name that cannot be looked up now has the addresses of before. */
  const known = new Map<string, string[]>()
  let denied = ''
  let work: Promise<void> | undefined
  let isAsked = false

  async function addressesOf(name: string): Promise<string[]> {
    if (isIPv4(name)) return [name]
    // Builds have no IPv6.
    if (isIPv6(name)) return []
    const found = await lookup(name, { all: true, family: 4 }).catch(() => undefined)
    if (found !== undefined) {
      const addresses = found.map(({ address }) => address)
      known.set(name, addresses)
    }
    return known.get(name) ?? []
  }

  async function deny(): Promise<void> {
    const places = [
      ...options.always.map(parsePlace),
      ...host.members().flatMap(({ membership }) => placesOf(membership)),
    ].filter((place) => place !== undefined)
    const found = await Promise.all(
      places.map(async ({ host: name, port }) => {
        // Builds have a loopback of their own.
        const addresses = (await addressesOf(name)).filter((each) => !each.startsWith('127.'))
        return addresses.map((address) => `${address}:${port}`)
      }),
    )
    const destinations = [...new Set(found.flat())].sort()
    const text = destinations.join(' ')
    if (text === denied) return
    await daemons.deny(destinations)
    denied = text
  }

  async function denySoon(): Promise<void> {
    while (isAsked && !stopping.signal.aborted) {
      await delay(options.gatherMs ?? 500, undefined, { signal: stopping.signal }).catch(() => {})
      isAsked = false
      await deny().catch((error: unknown) => {
        log.warn({ reason: describeError(error) }, 'builds could not be kept from all other nodes')
      })
    }
    work = undefined
  }

  function ask(): void {
    isAsked = true
    if (!stopping.signal.aborted) work ??= denySoon()
  }

  await deny()
  const listening = host.onMember(ask)
  const timer = setInterval(ask, options.lookUpMs ?? 10 * 60_000).unref()
  return {
    async [Symbol.asyncDispose]() {
      stopping.abort()
      listening[Symbol.dispose]()
      clearInterval(timer)
      await work
    },
  }
}

function placesOf({ addresses, bulkAddress, otherAddresses }: Membership) {
  return [...addresses, bulkAddress, ...otherAddresses].map(parsePlace)
}

function parsePlace(address: string): HostAndPort | undefined {
  return address.startsWith('/') ? parseMeshAddress(address) : parseHostAndPort(address)
}
