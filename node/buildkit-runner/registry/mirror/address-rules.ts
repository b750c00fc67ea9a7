/**
 * Which addresses a redirect may lead to. The mirror's requests leave from the node itself, where the
 * loopback interface, the private network and the cloud's metadata service answer: to none of them may a
 * registry, or whoever speaks for it, send us.
 */
import { lookup as resolve } from 'node:dns'
import { BlockList, isIP, type LookupFunction } from 'node:net'
import os from 'node:os'
import { HearthError } from '../../../../core/errors.ts'

/** Not globally reachable: https://www.iana.org/assignments/iana-ipv4-special-registry, and multicast. */
const special = new BlockList()
for (const [network, prefix] of [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.31.196.0', 24],
  ['192.52.193.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['192.175.48.0', 24],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 3],
] as const) {
  special.addSubnet(network, prefix, 'ipv4')
}

/** What is in global unicast and still no place of its own: tunnels into IPv4, documentation, benchmarks. */
const specialInGlobal = new BlockList()
for (const [network, prefix] of [
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16],
  ['3fff::', 20],
] as const) {
  specialInGlobal.addSubnet(network, prefix, 'ipv6')
}
const globalUnicast = new BlockList()
globalUnicast.addSubnet('2000::', 3, 'ipv6')

/** True for an address of the public internet that is not this machine's own. */
export function isPublicAddress(address: string): boolean {
  const family = isIP(address)
  if (family === 0) return false
  const isOwn = Object.values(os.networkInterfaces())
    .flat()
    .some((own) => own?.address === address)
  if (isOwn) return false
  if (family === 4) return !special.check(address, 'ipv4')
  // Everything outside global unicast is out, IPv4 in IPv6's clothes too.
  return globalUnicast.check(address, 'ipv6') && !specialInGlobal.check(address, 'ipv6')
}

/**
 * Resolves names, and gives only public addresses to whoever connects: what was checked is what is used, so
 * that a name cannot mean something else a moment later. Names alone: Node asks nobody about an address.
 */
export const lookupPublic: LookupFunction = (name, options, callback) => {
  resolve(name, { ...options, all: true }, (error, addresses) => {
    if (error !== null) return callback(error, [])
    const allowed = addresses.filter(({ address }) => isPublicAddress(address))
    const [first] = allowed
    if (first === undefined) return callback(notPublic(name), [])
    if (options.all === true) return callback(null, allowed)
    return callback(null, first.address, first.family)
  })
}

function notPublic(name: string): HearthError {
  return new HearthError('forbidden', `${name} is not at a public address`)
}

/**
 * Whether a registry may send us there by a redirect or for a token. The name's addresses are checked when
 * it is connected to (`lookupPublic`).
 */
export function isPublicTarget(url: URL): boolean {
  if (url.protocol !== 'https:' || url.port !== '' || url.username !== '') return false
  const name = url.hostname.replace(/^\[|\]$/g, '')
  return isIP(name) === 0 || isPublicAddress(name)
}
