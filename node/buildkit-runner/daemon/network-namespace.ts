/** The link between a daemon's network namespace and the machine, and the rules at both of its ends. */
import { readFile, writeFile } from 'node:fs/promises'
import { z } from 'zod'
import { HearthError, hasErrno } from '../../../core/errors.ts'
import { insideLink, insideRules, machineRules, type NetworkPolicy, passRules } from './firewall.ts'
import type { DaemonNetwork } from './machine-network.ts'
import { commandOutput } from './system-command.ts'

export interface NamespaceLink {
  /** Replaces the rules at both ends; what is no longer allowed ends, open connections too. */
  apply(policy: NetworkPolicy): Promise<void>
}

/**
 * Connects a namespace; nothing goes through before the rules are there. Whether it resolves or rejects, nothing
 * of it goes on afterwards: who removes what was made has it all.
 * @param place.pid a process in the namespace.
 * @throws HearthError `environment`
 */
export async function connectNamespace(
  place: { pid: number; network: DaemonNetwork },
  policy: NetworkPolicy,
): Promise<NamespaceLink> {
  const { pid, network } = place
  const { bridge, machineAddress, insideAddress } = network
  const inside = [`--net=/proc/${pid}/ns/net`, '--']
  let reaches = false

  async function applyMachineRules(next: NetworkPolicy): Promise<void> {
    await makeOnMachine(['nft', '--file', '-'], machineRules(network, next))
  }

  async function applyInsideRules(next: NetworkPolicy): Promise<void> {
    await commandOutput('nsenter', [...inside, 'nft', '--file', '-'], {
      input: insideRules(network, next),
    })
  }

  /** Only where it is needed: 127.0.0.1 as a destination behind a link, at both ends (ip-sysctl.rst, route_localnet). */
  async function routeLoopback(next: NetworkPolicy): Promise<void> {
    if (reaches || next.reach.length === 0) return
    await writeSetting(`ipv4/conf/${bridge}/route_localnet`, '1')
    const setting = `/proc/sys/net/ipv4/conf/${insideLink}/route_localnet`
    await commandOutput('nsenter', [...inside, 'sh', '-c', `echo 1 >${setting}`])
    reaches = true
  }

  async function makeLink(): Promise<void> {
    const [mtu] = await allEnded([defaultMtu(), applyMachineRules(policy), forwardPackets()])
    const steps = [
      `link add dev ${bridge} mtu ${mtu} type veth peer name ${insideLink} mtu ${mtu} netns ${pid}`,
      `address add ${machineAddress}/30 dev ${bridge}`,
    ]
    await batch('ip', [], steps)
    await writeSetting(`ipv6/conf/${bridge}/disable_ipv6`, '1')
    await allEnded([
      batch('ip', [], [`link set dev ${bridge} up`]),
      batch(
        'nsenter',
        [...inside, 'ip'],
        [
          `address add ${insideAddress}/30 dev ${insideLink}`,
          `link set dev ${insideLink} up`,
          `route add default via ${machineAddress}`,
        ],
      ),
    ])
  }

  await allEnded([
    makeLink(),
    applyInsideRules(policy),
    makeOnMachine(['iptables-restore', '--noflush', '--wait', '10'], passRules(network)),
  ])
  await routeLoopback(policy)

  return {
    async apply(next) {
      await allEnded([applyMachineRules(next), applyInsideRules(next), routeLoopback(next)])
    },
  }
}

/** Ends with us: what a killed Hearth still makes would come after whoever sweeps behind it. */
async function makeOnMachine(command: readonly string[], input: string): Promise<void> {
  await commandOutput('setpriv', ['--pdeathsig', 'KILL', '--', ...command], { input })
}

/** As Promise.all, but the first failure waits for the others. */
export async function allEnded<Works extends readonly Promise<unknown>[]>(
  works: readonly [...Works],
): Promise<{ [Index in keyof Works]: Awaited<Works[Index]> }> {
  await Promise.allSettled(works)
  return Promise.all(works) as Promise<{ [Index in keyof Works]: Awaited<Works[Index]> }>
}

async function batch(
  program: string,
  before: readonly string[],
  lines: readonly string[],
): Promise<void> {
  await commandOutput(program, [...before, '-batch', '-'], { input: `${lines.join('\n')}\n` })
}

const forwarding = '/proc/sys/net/ipv4/ip_forward'

async function forwardPackets(): Promise<void> {
  if ((await readFile(forwarding, 'utf8')).trim() === '1') return
  try {
    await writeFile(forwarding, '1')
  } catch (error) {
    throw new HearthError(
      'environment',
      'this machine forwards no packets: builds have no network',
      {
        hint: 'turn it on: sysctl -w net.ipv4.ip_forward=1',
        cause: error,
      },
    )
  }
}

/** A machine without IPv6 has no settings of it. */
async function writeSetting(name: string, value: string): Promise<void> {
  try {
    await writeFile(`/proc/sys/net/${name}`, value)
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) throw error
  }
}

const linksSchema = z.array(z.object({ ifname: z.string(), mtu: z.int().positive() }))
const routesSchema = z.array(z.object({ dev: z.string().optional() }))

/** Of the way to everywhere: packets that are too long for it would only come back. */
async function defaultMtu(): Promise<number> {
  const [links, routes] = await Promise.all([
    commandOutput('ip', ['-json', 'link', 'show']),
    commandOutput('ip', ['-json', '-4', 'route', 'show', 'default']),
  ])
  const [route] = routesSchema.parse(JSON.parse(routes || '[]'))
  const link = linksSchema.parse(JSON.parse(links)).find(({ ifname }) => ifname === route?.dev)
  return Math.min(link?.mtu ?? 1500, 1500)
}
