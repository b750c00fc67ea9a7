/** `hearth nodes`: the builder nodes and their load. */
import { AdminService, type Node } from '../../proto/generated/hearth/v1/coordinator.ts'
import { askCoordinator } from '../client-verb.ts'
import { addClientFlags, type CommonFlags, runFlags } from '../flags.ts'
import { formatTable } from '../table.ts'
import { answer, type Terminal, type Verb } from '../terminal.ts'
import { formatAge, formatBytes } from '../units.ts'

export const verb: Verb = {
  run: (args, terminal) =>
    runFlags('nodes', args, terminal, (command, run) => {
      addClientFlags(command)
        .description('Lists the builder nodes and their load.')
        .action((flags: CommonFlags) => run(listNodes(terminal, flags)))
    }),
}

async function listNodes(terminal: Terminal, flags: CommonFlags): Promise<undefined> {
  const { nodes } = await askCoordinator(terminal, flags, ({ client, signal }) =>
    client.call(AdminService.listNodes, {}, { signal }),
  )
  answer(terminal, { json: flags.json === true }, { nodes }, describe(nodes))
}

function describe(nodes: readonly Node[]): string[] {
  if (nodes.length === 0) return ['No nodes yet. "hearth up" or "hearth node" starts one.']
  const now = new Date()
  return formatTable<Node>(
    [
      { title: 'ID', value: (node) => node.id },
      { title: 'NAME', value: (node) => node.name || '-' },
      { title: 'PLATFORM', value: (node) => node.platform },
      { title: 'STATE', value: stateOf },
      {
        title: 'SLOTS',
        value: (node) => `${node.load?.slotsUsed ?? 0} of ${node.load?.slots ?? 0}`,
        align: 'right',
      },
      { title: 'QUEUED', value: (node) => `${node.load?.queued ?? 0}`, align: 'right' },
      { title: 'CACHE', value: (node) => formatBytes(node.load?.cacheBytes ?? 0), align: 'right' },
      {
        title: 'DISK FREE',
        value: (node) => formatBytes(node.load?.diskFreeBytes ?? 0),
        align: 'right',
      },
      { title: 'SEEN', value: (node) => formatAge(node.lastSeenAt, now) },
      { title: 'VERSION', value: (node) => node.version },
    ],
    nodes,
  )
}

function stateOf(node: Node): string {
  if (!node.online) return 'away'
  return node.load?.draining === true ? 'draining' : 'online'
}
