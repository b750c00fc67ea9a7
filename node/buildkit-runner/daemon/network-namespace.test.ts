import { randomBytes, randomInt } from 'node:crypto'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo, Server } from 'node:net'
import anyTest, { type ExecutionContext, type TestFn } from 'ava'
import { parseDestination } from './destinations.ts'
import { metadataRanges, type NetworkPolicy } from './firewall.ts'
import { layOut, removeNetwork, rulesToRemove } from './machine-network.ts'
import {
  ask,
  createNamespace,
  createTestNetwork,
  insideOf,
  type TestNetwork,
} from './network-fixture.ts'
import { connectNamespace } from './network-namespace.ts'
import { commandOutput } from './system-command.ts'

// One after another: each starts dozens of small programs.
const test = (anyTest as TestFn<{ network: TestNetwork }>).serial

test.before(async (t) => {
  t.context.network = await createTestNetwork()
})

test.after.always(async (t) => {
  await t.context.network?.[Symbol.asyncDispose]()
})

const answered = { type: 'answered', text: 'reached' } as const
const refused = { type: 'refused' } as const

function serve(t: ExecutionContext, listener: Server, answer?: RequestListener): void {
  const server = createServer(answer ?? ((_request, response) => response.end('reached')))
  server.listen(listener)
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
}

async function serveOnMachine(t: ExecutionContext, host: string): Promise<number> {
  const server = createServer((_request, response) => response.end('reached'))
  server.listen(0, host)
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return (server.address() as AddressInfo).port
}

function policy(options: { deny?: string[]; reach?: number[]; nameServers?: string[] } = {}) {
  const { deny = [], reach = [], nameServers = [] } = options
  const denied = [...metadataRanges, ...deny].flatMap((text) => parseDestination(text) ?? [])
  return { denied, reach, nameServers } satisfies NetworkPolicy
}

/** A namespace as a daemon has it, with its link. */
async function connect(t: ExecutionContext, chosen = policy()) {
  const namespace = await createNamespace()
  const network = layOut({
    bridge: `hth${randomBytes(6).toString('hex')}`,
    subnet: `10.${randomInt(64, 128)}.${randomInt(256)}.0/24`,
  })
  t.teardown(async () => {
    await removeNetwork(network)
    await namespace[Symbol.asyncDispose]()
  })
  await insideOf(namespace.pid, ['ip', 'link', 'set', 'dev', 'lo', 'up'])
  const link = await connectNamespace({ pid: namespace.pid, network }, chosen)
  return { pid: namespace.pid, network, link }
}

/** One that no other test uses at the same time. */
function linkLocalAddress(): string {
  return `169.254.${randomInt(1, 255)}.${randomInt(1, 255)}`
}

test('the network is reached, and sees one address of this machine', async (t) => {
  const { network } = t.context
  const seen: (string | undefined)[] = []
  serve(t, await network.listen(network.address, 8001), (request, response) => {
    seen.push(request.socket.remoteAddress)
    response.end('reached')
  })
  const { pid } = await connect(t)
  t.deepEqual(await ask(pid, network.address, 8001), answered)
  t.deepEqual(seen, [network.machineAddress])
})

test('link-local addresses are refused, but for a name server’s port 53', async (t) => {
  const { network } = t.context
  const [metadata, names] = [linkLocalAddress(), linkLocalAddress()]
  for (const address of [metadata, names]) {
    await network.addAddress(address)
    for (const port of [80, 53]) serve(t, await network.listen(address, port))
  }
  const { pid } = await connect(t, policy({ nameServers: [names] }))
  // The services are there, for this machine.
  t.deepEqual(await ask(process.pid, metadata, 80), answered)
  t.deepEqual(await ask(pid, metadata, 80), refused)
  t.deepEqual(await ask(pid, metadata, 53), refused)
  t.deepEqual(await ask(pid, names, 80), refused)
  t.deepEqual(await ask(pid, names, 53), answered)
})

test('no address of this machine is reached', async (t) => {
  const { network } = t.context
  const port = await serveOnMachine(t, '0.0.0.0')
  const { pid, network: own } = await connect(t)
  for (const address of ['127.0.0.1', own.machineAddress, network.machineAddress]) {
    t.deepEqual(await ask(process.pid, address, port), answered, address)
    t.deepEqual(await ask(pid, address, port), refused, address)
  }
})

test('one daemon’s namespace does not reach another’s', async (t) => {
  const [one, other] = await Promise.all([connect(t), connect(t)])
  t.deepEqual(await ask(one.pid, other.network.insideAddress, 80), refused)
  t.deepEqual(await ask(one.pid, other.network.machineAddress, 80), refused)
})

test('what is denied is refused from then on, and only that', async (t) => {
  const { network } = t.context
  for (const port of [8002, 8003]) serve(t, await network.listen(network.address, port))
  const { pid, link } = await connect(t)
  t.deepEqual(await ask(pid, network.address, 8002), answered)
  await link.apply(policy({ deny: [`${network.address}:8002`, `[fd00::1]:8003`] }))
  t.deepEqual(await ask(pid, network.address, 8002), refused)
  t.deepEqual(await ask(pid, network.address, 8003), answered)
  await link.apply(policy({ deny: [`${network.address}/31`, `${network.address}/32`] }))
  t.deepEqual(await ask(pid, network.address, 8003), refused)
  await link.apply(policy())
  t.deepEqual(await ask(pid, network.address, 8002), answered)
})

test('a port of loopback is reached where that is wished, and no other', async (t) => {
  const [wished, other] = [
    await serveOnMachine(t, '127.0.0.1'),
    await serveOnMachine(t, '127.0.0.1'),
  ]
  const { pid, network, link } = await connect(t, policy({ reach: [wished] }))
  t.deepEqual(await ask(pid, '127.0.0.1', wished), answered)
  t.deepEqual(await ask(pid, '127.0.0.1', other), refused)
  t.deepEqual(await ask(pid, network.machineAddress, other), refused)
  await link.apply(policy({ reach: [other] }))
  t.deepEqual(await ask(pid, '127.0.0.1', other), answered)
  t.deepEqual(await ask(pid, '127.0.0.1', wished), refused)
})

test('a sender’s address that is not the daemon’s gets nowhere', async (t) => {
  const { network } = t.context
  const forged = '198.51.100.7'
  serve(t, await network.listen(network.address, 8004))
  const { pid, network: own } = await connect(t)
  t.deepEqual(await ask(pid, network.address, 8004), answered)
  const inNetwork = (command: string) => insideOf(network.pid, ['sh', '-c', command])
  await inNetwork(`nft 'table ip seen { chain input { type filter hook input priority 0;
    ip saddr ${forged} counter drop; }; }'`)
  const steps = [
    ['address', 'add', `${forged}/32`, 'dev', 'lo'],
    ['route', 'replace', `${network.address}/32`, 'via', own.machineAddress, 'src', forged],
  ]
  for (const step of steps) await insideOf(pid, ['ip', ...step])
  t.deepEqual(await ask(pid, network.address, 8004, 3), { type: 'silence' })
  t.regex(await inNetwork('nft list table ip seen'), /counter packets 0 /)
})

test('nothing is left when a network is removed, in whatever state', async (t) => {
  const { network, pid } = await connect(t, policy({ reach: [80] }))
  const shows = async (): Promise<string> =>
    [
      await commandOutput('ip', ['link', 'show']),
      await commandOutput('nft', ['list', 'ruleset']),
      await commandOutput('iptables-save', []),
    ].join('\n')
  t.true((await shows()).includes(network.bridge))
  await removeNetwork(network)
  t.false((await shows()).includes(network.bridge))
  t.is((await readFile(`/proc/${pid}/net/dev`, 'utf8')).includes('eth0'), false)
  await removeNetwork(network)
})

// With a neighbour whose name begins alike.
const saved = `# Generated by iptables-save v1.8.9
*filter
:FORWARD ACCEPT [0:0]
-A INPUT -i hth0123456789ab -j ACCEPT
-A INPUT -i hth0123456789ac -j ACCEPT
-A FORWARD -o hth0123456789ab -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -i docker0 -j ACCEPT
COMMIT
*nat
-A POSTROUTING -s 10.201.7.3/32 -j MASQUERADE
COMMIT
`

test('the rules of one link are removed, nobody else’s', (t) => {
  const claimed = { bridge: 'hth0123456789ab', subnet: '10.201.7.0/24' }
  t.deepEqual(rulesToRemove(saved, claimed)?.split('\n'), [
    '*filter',
    '-D INPUT -i hth0123456789ab -j ACCEPT',
    '-D FORWARD -o hth0123456789ab -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
    'COMMIT',
    '',
  ])
  t.is(rulesToRemove(saved, { bridge: 'hthffffffffffff', subnet: '10.9.9.0/24' }), undefined)
})
