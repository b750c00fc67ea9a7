/** The machine's network as the daemons' links meet it: what is taken, and what a link leaves behind. */
import { readFile } from 'node:fs/promises'
import { z } from 'zod'
import { HearthError } from '../../../core/errors.ts'
import { type AddressRange, parseRange, widened } from './subnets.ts'
import { commandOutput, runCommand } from './system-command.ts'

/** The links of every Hearth's daemons begin like this. */
export const bridgePrefix = 'hth'

/** What one daemon holds of the machine's network. */
export interface ClaimedNetwork {
  /**
   * The name of the daemon's link to the machine, and of the bridge of its steps inside its own network
   * namespace. At most 15 characters (IFNAMSIZ).
   */
  readonly bridge: string
  /** A /24, for example "10.201.7.0/24". */
  readonly subnet: string
}

/** How the claimed addresses are used: four for the link, the upper half for steps. */
export interface DaemonNetwork extends ClaimedNetwork {
  /** "10.201.7.0/30" */
  readonly linkSubnet: string
  readonly machineAddress: string
  readonly insideAddress: string
  /** "10.201.7.128/25"; the machine never sees these, because the namespace translates them. */
  readonly stepSubnet: string
}

export function layOut({ bridge, subnet }: ClaimedNetwork): DaemonNetwork {
  const prefix = subnet.slice(0, subnet.lastIndexOf('.'))
  return {
    bridge,
    subnet,
    linkSubnet: `${prefix}.0/30`,
    machineAddress: `${prefix}.1`,
    insideAddress: `${prefix}.2`,
    stepSubnet: `${prefix}.128/25`,
  }
}

const addressesSchema = z.array(
  z.object({
    ifname: z.string().optional(),
    addr_info: z.array(z.object({ local: z.string(), prefixlen: z.int() })).default([]),
  }),
)
const routesSchema = z.array(z.object({ dst: z.string().optional(), dev: z.string().optional() }))

/**
 * What addresses a new link must not take: those of interfaces, routes and name servers. Around
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
 * Removes a daemon's link and the rules about it. The kernel removes the link with the namespace, but in its
 * own time; the rules stay.
 */
export async function removeNetwork(network: ClaimedNetwork): Promise<void> {
  await removeLink(network.bridge)
  await removeTable(network.bridge)
  await removePassRules(network)
}

/** Gone already is as good. */
async function removeLink(link: string): Promise<void> {
  const removed = await runCommand('ip', ['link', 'delete', 'dev', link])
  if (removed.exitCode === 0 || removed.stderr.includes('Cannot find device')) return
  throw new HearthError('environment', `cannot remove the link ${link}: ${removed.stderr}`)
}

async function removeTable(table: string): Promise<void> {
  const edit = `add table inet ${table}\ndelete table inet ${table}\n`
  await commandOutput('nft', ['--file', '-'], { input: edit })
}

const ruleAttempts = 3

async function removePassRules(network: ClaimedNetwork): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const edit = rulesToRemove(await commandOutput('iptables-save', []), network)
    if (edit === undefined) return
    const result = await runCommand('iptables-restore', ['--noflush', '--wait', '10'], {
      input: edit,
    })
    if (result.exitCode === 0) return
    // Somebody may have changed a table between our look and our edit.
    if (attempt === ruleAttempts) {
      await commandOutput('iptables-restore', ['--noflush', '--wait', '10'], { input: edit })
      return
    }
  }
}

/**
 * The input of `iptables-restore --noflush` that deletes the rules about a daemon's link, or undefined when
 * there is none.
 * @param saved what iptables-save prints.
 */
export function rulesToRemove(saved: string, network: ClaimedNetwork): string | undefined {
  const names = new RegExp(` -[io] ${network.bridge} `)
  const edit: string[] = []
  let table: string[] = []
  for (const line of saved.split('\n')) {
    if (line.startsWith('*')) table = [line]
    if (line.startsWith('-A ') && names.test(line)) table.push(`-D${line.slice(2)}`)
    if (line === 'COMMIT' && table.length > 1) edit.push(...table, 'COMMIT')
  }
  return edit.length === 0 ? undefined : `${edit.join('\n')}\n`
}
