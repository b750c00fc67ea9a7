/**
 * The names by which a build could call the loopback registry: its own name, and its address in a daemon's
 * network namespace. Capabilities are what protects its content; that builds cannot even name it is a
 * second wall, and says what is wrong.
 */
import { encodeField } from '../../../../proto/wire.ts'

export interface OwnRegistry {
  /** Whether a reference, an address or a comma-separated list of them names it. */
  isNamedBy(text: string): boolean
  /**
   * An encoded `sourcepolicy.Policy` with one rule, which denies every source on it. Appended to a client's
   * own policy (a message field that stands twice is merged) it is the last rule, which is the one that
   * counts, also for what an earlier rule converts.
   */
  readonly denial: Buffer
}

/** @param registryHost "host:port" as daemons know it. */
export function ownRegistry(registryHost: string): OwnRegistry {
  const at = registryHost.lastIndexOf(':')
  const port = `0*${registryHost.slice(at + 1)}`
  const name = registryHost.slice(0, at).replaceAll('.', '\\.')
  const hosts = [
    `${name}\\.?(:[0-9]*)?`,
    // See registryAddress in the daemon room; the same as IPv6 writes it.
    `(127\\.0\\.0\\.2|\\[[0-9a-f:]*ffff:(127\\.0\\.0\\.2|7f00:0*2)\\]):${port}`,
    // Go maps other scripts' letters and dots to ASCII before it looks a host up.
    `[^/?#]*[^\\x00-\\x7f][^/?#]*:${port}`,
  ]
  const place = `([^/?#]*@)?(${hosts.join('|')})([/?#]|$)`
  // One syntax for both: RE2 in BuildKit, ECMAScript here.
  const source = `^[a-z+-]+://${place}`
  const named = new RegExp(`^([a-z+-]+://)?${place}`, 'i')
  return {
    isNamedBy: (text) =>
      text.split(',').some((part) => named.test(part.trim().replaceAll('"', ''))),
    denial: Buffer.from(encodeField(2, denyRule(`(?i)${source}`))),
  }
}

/** Rule: action = 1 (DENY = 1), selector = 2 { identifier = 1, match_type = 2 (REGEX = 2) }. */
function denyRule(identifier: string): Buffer {
  const selector = Buffer.concat([encodeField(1, identifier), Buffer.from([(2 << 3) | 0, 2])])
  return Buffer.concat([Buffer.from([(1 << 3) | 0, 1]), encodeField(2, selector)])
}
