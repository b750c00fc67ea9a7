/** Addresses that daemons listen on, as people write them. */
import { HearthError } from '../core/errors.ts'

export interface ListenAddress {
  readonly host: string
  readonly port: number
}

/**
 * "host:port", "[ipv6]:port", ":port" (every address of this machine).
 * @throws HearthError `invalid-input`
 */
export function parseListenAddress(flag: string, text: string): ListenAddress {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]*)):(\d{1,5})$/.exec(text)
  const port = Number(match?.[3])
  if (match === null || port > 65_535) {
    throw new HearthError('invalid-input', `${flag}: "${text}" is no address to listen on`, {
      hint: 'write host:port, for example 0.0.0.0:4327',
    })
  }
  return { host: (match[1] ?? match[2]) || '0.0.0.0', port }
}
