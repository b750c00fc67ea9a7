/**
 * What builds may reach, as rules for nft(8): the steps of a daemon and the daemon's own fetches (`ADD http`,
 * git, `FROM`, redirects) alike, because everything leaves its network namespace through one link.
 *
 * On the machine, one table per link, named like it. What comes from the link is judged before any address
 * is translated, so that a published port of a container counts as the machine's own:
 *
 *   name servers, port 53 ─▶ allowed      the machine itself, denied destinations ─▶ refused at once
 *   loopback ports to reach ─▶ allowed    IPv6, senders that are not ours ─▶ dropped     the rest ─▶ allowed
 *
 * Inside the namespace, one table that keeps steps from what only buildkitd may use: the namespace's own
 * addresses, and the loopback ports to reach.
 */
import { bridgePrefix, type DaemonNetwork } from './machine-network.ts'

export interface NetworkPolicy {
  /** IPv4 destinations that are refused, beside the machine itself and its other daemons. */
  readonly denied: readonly Destination[]
  /** Ports of the machine's 127.0.0.1 that buildkitd reaches on its own 127.0.0.1. */
  readonly reach: readonly number[]
  /** IPv4 addresses. */
  readonly nameServers: readonly string[]
}

/** A range of addresses, or one TCP port of one address. */
export type Destination =
  | { readonly type: 'range'; readonly range: string }
  | { readonly type: 'port'; readonly address: string; readonly port: number }

/**
 * Where clouds serve their machines' credentials: the link-local range (AWS, Google, Azure, Oracle, and AWS's
 * credentials of containers), Alibaba's address, and Azure's, which is a name server too.
 */
export const metadataRanges = ['169.254.0.0/16', '100.100.100.200', '168.63.129.16']

/** Inside the namespace. */
export const insideLink = 'eth0'

/** A refusal is an answer, so that a build fails at once instead of after a time-out. */
const refused = `
  chain refused {
    meta l4proto tcp reject with tcp reset
    reject with icmpx admin-prohibited
  }`

/** Replaces the machine's table of this link, or makes it, in one step. */
export function machineRules(network: DaemonNetwork, policy: NetworkPolicy): string {
  const { bridge, machineAddress, insideAddress } = network
  const ranges = policy.denied.flatMap((entry) => (entry.type === 'range' ? [entry.range] : []))
  const ports = policy.denied.flatMap((entry) =>
    entry.type === 'port' ? [`${entry.address} . ${entry.port}`] : [],
  )
  return `${replacing(bridge)}
table inet ${bridge} {
  set name_servers { type ipv4_addr; ${elements(policy.nameServers)} }
  set denied_ranges { type ipv4_addr; flags interval; auto-merge; ${elements(ranges)} }
  set denied_ports { type ipv4_addr . inet_service; ${elements(ports)} }
  set reach { type inet_service; ${elements(policy.reach.map(String))} }
  chain leaving {
    type filter hook prerouting priority mangle; policy accept;
    iifname != "${bridge}" accept
    meta nfproto != ipv4 drop
    ip saddr != ${insideAddress} drop
    ip daddr @name_servers meta l4proto { tcp, udp } th dport 53 accept
    ip daddr ${machineAddress} tcp dport @reach accept
    fib daddr type { local, broadcast, anycast, multicast } goto refused
    ip daddr @denied_ranges goto refused
    ip daddr . tcp dport @denied_ports goto refused
  }
  chain crossing {
    type filter hook forward priority -10; policy accept;
    iifname "${bridge}" oifname "${bridgePrefix}*" goto refused
  }
  chain entering {
    type filter hook forward priority filter; policy accept;
    oifname "${bridge}" ct state != { established, related } drop
  }
  chain reached {
    type nat hook prerouting priority dstnat; policy accept;
    iifname "${bridge}" ip daddr ${machineAddress} tcp dport @reach dnat ip to 127.0.0.1
  }
  chain translated {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr ${insideAddress} oifname != "${bridge}" masquerade
  }${refused}
}
`
}

/** Replaces the namespace's table, or makes it, in one step. */
export function insideRules(network: DaemonNetwork, policy: Pick<NetworkPolicy, 'reach'>): string {
  const { machineAddress, insideAddress, linkSubnet } = network
  return `${replacing('hearth')}
table inet hearth {
  set reach { type inet_service; ${elements(policy.reach.map(String))} }
  chain entering {
    type filter hook input priority filter; policy accept;
    iifname "lo" accept
    ct state established,related accept
    goto refused
  }
  chain crossing {
    type filter hook forward priority filter; policy accept;
    ip daddr ${linkSubnet} goto refused
    tcp flags syn tcp option maxseg size set rt mtu
  }
  chain reached {
    type nat hook output priority -100; policy accept;
    ip daddr 127.0.0.1 tcp dport @reach dnat ip to ${machineAddress}
  }
  chain translated {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr 127.0.0.0/8 oifname "${insideLink}" snat ip to ${insideAddress}
  }${refused}
}
`
}

/**
 * The input of `iptables-restore --noflush` for other people's rules: Docker, for one, forwards nothing that
 * it does not know. What our own table has let through is let through.
 */
export function passRules({ bridge }: DaemonNetwork): string {
  return [
    '*filter',
    `-I INPUT -i ${bridge} -j ACCEPT`,
    `-I FORWARD -i ${bridge} -j ACCEPT`,
    `-I FORWARD -o ${bridge} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
    'COMMIT',
    '',
  ].join('\n')
}

/** "Delete" of a table that is not there would fail the whole input; "add" of one that is there does not. */
function replacing(table: string): string {
  return `add table inet ${table}\ndelete table inet ${table}`
}

function elements(values: readonly string[]): string {
  return values.length === 0 ? '' : `elements = { ${[...new Set(values)].join(', ')} };`
}
