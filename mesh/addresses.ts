/** Addresses as the mesh writes them (multiaddresses, "/ip4/192.0.2.7/tcp/7000"), and as everybody else does. */
import { isIPv4, isIPv6 } from 'node:net'

export interface HostAndPort {
  readonly host: string
  readonly port: number
}

/** For a listening peer, where a wildcard is an address as well, or for how others reach it. */
export function formatMeshAddress({ host, port }: HostAndPort): string {
  const kind = isIPv4(host) ? 'ip4' : isIPv6(host) ? 'ip6' : 'dns'
  return `/${kind}/${host}/tcp/${port}`
}

/** Undefined for what is no address over TCP. */
export function parseMeshAddress(address: string): HostAndPort | undefined {
  const match = /^\/(?:ip4|ip6|dns|dns4|dns6)\/([^/]+)\/tcp\/(\d{1,5})$/.exec(address)
  return match?.[1] === undefined ? undefined : { host: match[1], port: Number(match[2]) }
}

/** "host:port", "[ipv6]:port". Undefined for everything else. */
export function parseHostAndPort(address: string): HostAndPort | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+)):(\d{1,5})$/.exec(address)
  const host = match?.[1] ?? match?.[2]
  return host === undefined ? undefined : { host, port: Number(match?.[3]) }
}
