/** The machine's network as the daemons' bridges meet it: what is taken, and what a bridge leaves behind. */
import { readFile } from 'node:fs/promises'
import { z } from 'zod'
import { type AddressRange, parseRange, widened } from './subnets.ts'
import { commandOutput, runCommand } from './system-command.ts'

/** Every Hearth's bridges begin like this. */
export const bridgePrefix = 'hth'

/** A bridge of one daemon with the addresses of its steps. */
export interface BridgeNetwork {
  /** At most 15 characters (IFNAMSIZ). */
  readonly bridge: string
  /** A /24, for example "10.201.7.0/24". */
  readonly subnet: string
}

const addressesSchema = z.array(
  z.object({
    ifname: z.string().optional(),
    addr_info: z.array(z.object({ local: z.string(), prefixlen: z.int() })).default([]),
  }),
)
const routesSchema = z.array(z.object({ dst: z.string().optional(), dev: z.string().optional() }))

/**
 * What addresses a new bridge must not take: those of interfaces, routes and name servers. Around
 * everything that is not a Hearth's the whole /16 counts, because the rest of a site's network often lies
 * there, reached through the default route.
 */
export async function takenRanges(): Promise<AddressRange[]> {
  const [addresses, routes, resolver] = await Promise.all([
    commandOutput('ip', ['-json', '-4', 'address', 'show']),
    commandOutput('ip', ['-json', '-4', 'route', 'show', 'table', 'all']),
    readFile('/etc/resolv.conf', 'utf8').catch(() => ''),
  ])
  const taken: AddressRange[] = []
  const add = (text: string, device: string | undefined): void => {
    const range = parseRange(text)
    taken.push(device?.startsWith(bridgePrefix) ? range : widened(range))
  }
  for (const link of addressesSchema.parse(JSON.parse(addresses || '[]'))) {
    for (const { local, prefixlen } of link.addr_info) add(`${local}/${prefixlen}`, link.ifname)
  }
  for (const { dst, dev } of routesSchema.parse(JSON.parse(routes || '[]'))) {
    if (dst !== undefined && /^\d+\./.test(dst) && !dst.startsWith('0.0.0.0')) add(dst, dev)
  }
  for (const [, server] of resolver.matchAll(/^nameserver\s+(\d+\.\d+\.\d+\.\d+)/gm)) {
    if (server !== undefined) add(server, undefined)
  }
  return taken
}

/**
 * Removes a bridge and every packet filter rule that names it or its subnet. BuildKit removes its bridge
 * when it stops in peace, but leaves two rules behind even then.
 */
export async function removeBridgeNetwork(network: BridgeNetwork): Promise<void> {
  const found = await runCommand('ip', ['link', 'show', 'dev', network.bridge])
  if (found.exitCode === 0) {
    const removed = await runCommand('ip', [
      'link',
      'delete',
      'dev',
      network.bridge,
      'type',
      'bridge',
    ])
    // Gone meanwhile is as good.
    if (removed.exitCode !== 0 && !removed.stderr.includes('Cannot find device')) {
      await commandOutput('ip', ['link', 'delete', 'dev', network.bridge, 'type', 'bridge'])
    }
  }
  await removeRules(network)
}

const ruleAttempts = 3

async function removeRules(network: BridgeNetwork): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const edit = rulesToRemove(await commandOutput('iptables-save', []), network)
    if (edit === undefined) return
    const result = await runCommand('iptables-restore', ['--noflush', '--wait', '10'], {
      input: edit,
    })
    if (result.exitCode === 0) return
    // Another daemon's plugin may have changed a table between our look and our edit.
    if (attempt === ruleAttempts) {
      await commandOutput('iptables-restore', ['--noflush', '--wait', '10'], { input: edit })
      return
    }
  }
}

/**
 * The input of `iptables-restore --noflush` that deletes a bridge's rules, or undefined when there is none.
 * @param saved what iptables-save prints.
 */
export function rulesToRemove(saved: string, network: BridgeNetwork): string | undefined {
  const prefix = network.subnet.slice(0, network.subnet.lastIndexOf('.') + 1).replaceAll('.', '\\.')
  const names = new RegExp(`(?:-[io] ${network.bridge} )|(?:-[sd] ${prefix}\\d+/\\d+ )`)
  const edit: string[] = []
  let table: string[] = []
  for (const line of saved.split('\n')) {
    if (line.startsWith('*')) table = [line]
    if (line.startsWith('-A ') && names.test(line)) table.push(`-D${line.slice(2)}`)
    if (line === 'COMMIT' && table.length > 1) {
      // The bridge plugin gives each step's address translation a chain of its own.
      const chains = new Set(
        table.flatMap((rule) => rule.match(/(?<= -j )CNI-[0-9a-f]{24}$/) ?? []),
      )
      const own = table.filter(
        (rule) => ![...chains].some((chain) => rule.startsWith(`-D ${chain} `)),
      )
      edit.push(...own)
      for (const chain of chains) edit.push(`-F ${chain}`, `-X ${chain}`)
      edit.push('COMMIT')
    }
  }
  return edit.length === 0 ? undefined : `${edit.join('\n')}\n`
}
