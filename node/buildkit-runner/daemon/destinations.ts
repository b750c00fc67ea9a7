/** What a person or another room denies to builds, as text. */
import { isIPv4, isIPv6 } from 'node:net'
import { HearthError } from '../../../core/errors.ts'
import type { Destination } from './firewall.ts'
import { parseRange } from './subnets.ts'

/**
 * Undefined for IPv6, of which builds have none.
 * @param text "10.1.2.0/24", "10.1.2.3" or "10.1.2.3:4327"; the same of IPv6, ports after brackets.
 * @throws HearthError `invalid-input`; host names are not looked up here.
 */
export function parseDestination(text: string): Destination | undefined {
  const bracketed = /^\[([^\]]*)\](?::\d+)?$/.exec(text)?.[1]
  if (isIPv6(bracketed ?? text.split('/')[0] ?? '')) return undefined
  const [address = '', port, ...rest] = text.split(':')
  if (port === undefined) {
    parseRange(text)
    return { type: 'range', range: text }
  }
  if (rest.length > 0 || !isIPv4(address) || !/^\d{1,5}$/.test(port) || Number(port) > 65_535) {
    throw new HearthError('invalid-input', `"${text.slice(0, 60)}" is no destination`, {
      hint: 'write it like 10.1.2.0/24, 10.1.2.3 or 10.1.2.3:4327',
    })
  }
  return { type: 'port', address, port: Number(port) }
}
