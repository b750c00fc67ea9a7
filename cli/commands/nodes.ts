/** `hearth nodes`: the builder nodes, their load, and how warm they are for each project. */
import { AdminService, type Node } from '../../proto/generated/hearth/v1/coordinator.ts'
import type { ProjectHeat } from '../../proto/generated/hearth/v1/node.ts'
import { askCoordinator } from '../client-verb.ts'
import { addClientFlags, type CommonFlags, runFlags } from '../flags.ts'
import { formatTable } from '../table.ts'
import { answer, type Terminal, type Verb } from '../terminal.ts'
import { formatAge, formatBytes } from '../units.ts'

export const verb: Verb = {
  run: (args, terminal) =>
    runFlags('nodes', args, terminal, (command, run) => {
      addClientFlags(command)
        .description('Lists the builder nodes, their load, and what they hold of each project.')
        .action((flags: CommonFlags) => run(listNodes(terminal, flags)))
      addClientFlags(command.command('remove'))
        .description('Lets a node in no more, until it comes with a new join token.')
        .argument('<id>', 'as "hearth nodes" lists it')
        .action((id: string, flags: CommonFlags) => run(removeNode(terminal, id, flags)))
    }),
}

async function listNodes(terminal: Terminal, flags: CommonFlags): Promise<undefined> {
  const { nodes } = await askCoordinator(terminal, flags, ({ client, signal }) =>
    client.call(AdminService.listNodes, {}, { signal }),
  )
  const lines = [...describe(nodes), ...describeHeat(nodes)]
  answer(terminal, { json: flags.json === true }, { nodes }, lines)
}

async function removeNode(
  terminal: Terminal,
  nodeId: string,
  flags: CommonFlags,
): Promise<undefined> {
  await askCoordinator(terminal, flags, ({ client, signal }) =>
    client.call(AdminService.removeNode, { nodeId }, { signal }),
  )
  const lines = [`The node ${nodeId} is removed; others give it nothing more.`]
  answer(terminal, { json: flags.json === true }, { nodeId }, lines)
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
      { title: 'MESH', value: meshOf },
      {
        title: 'SLOTS',
        value: (node) => `${node.load?.slotsUsed ?? 0} of ${node.load?.slots ?? 0}`,
        align: 'right',
      },
      { title: 'QUEUED', value: (node) => `${node.load?.queued ?? 0}`, align: 'right' },
      { title: 'HELD', value: (node) => formatBytes(node.load?.cacheBytes ?? 0), align: 'right' },
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

function meshOf(node: Node): string {
  if (node.peerId === '') return 'no'
  return node.inMesh ? 'in' : 'away'
}

interface Heat extends ProjectHeat {
  readonly node: string
}

/** One line for each project and node that has something of it. */
function describeHeat(nodes: readonly Node[]): string[] {
  const heat = nodes
    .flatMap(({ name, id, load }) =>
      (load?.projects ?? []).map((each): Heat => ({ ...each, node: name || id })),
    )
    .sort((a, b) => a.project.localeCompare(b.project) || b.heldBytes - a.heldBytes)
  if (heat.length === 0) return []
  const table = formatTable<Heat>(
    [
      { title: 'PROJECT', value: ({ project }) => project },
      { title: 'NODE', value: ({ node }) => node },
      { title: 'HELD', value: ({ heldBytes }) => formatBytes(heldBytes), align: 'right' },
      { title: 'STEPS HOT', value: ({ hotSteps }) => `${hotSteps}`, align: 'right' },
      { title: 'STEPS HELD', value: ({ heldSteps }) => `${heldSteps}`, align: 'right' },
    ],
    heat,
  )
  return ['', ...table]
}
