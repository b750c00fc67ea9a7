/**
 * A machine and a network of the test's own: two network namespaces with a link between them and to nowhere
 * else. Hearth runs on the machine; the network holds what builds are meant to reach, and the cloud's
 * metadata addresses. They end with the process that made them.
 */
import {
  type CommandResult,
  type ManagedProcess,
  runTimed,
  startProcess,
} from '../harness/index.ts'

export interface OuterNetwork extends AsyncDisposable {
  readonly machine: Namespace
  readonly network: Namespace
}

export interface Namespace {
  /** For nsenter(1). */
  readonly path: string
  run(program: string, args: readonly string[]): Promise<CommandResult>
}

/** From the ranges for documentation (RFC 5737, RFC 3849) and for the cloud (AWS's, which others share). */
export const addresses = {
  machine: '198.51.100.2',
  /** What builds may reach, and the way to everywhere else. */
  allowed: '198.51.100.10',
  metadata: '169.254.169.254',
  metadataTwin: 'fd00:ec2::254',
  machine6: '2001:db8:51::2',
  allowed6: '2001:db8:51::10',
} as const

export async function createOuterNetwork(): Promise<OuterNetwork> {
  await using cleanUp = new AsyncDisposableStack()
  const network = cleanUp.use(await holdNamespace())
  const machine = cleanUp.use(await holdNamespace())
  const inMachine = namespaceOf(machine)
  const inNetwork = namespaceOf(network)
  const all = async (place: Namespace, commands: readonly string[]): Promise<void> => {
    for (const command of commands) await must(place, command)
  }
  await all(inMachine, [
    `link add uplink type veth peer name uplink netns ${network.pid}`,
    'link set lo up',
    `address add ${addresses.machine}/24 dev uplink`,
    `address add ${addresses.machine6}/64 dev uplink nodad`,
    'link set uplink up',
  ])
  await all(inNetwork, [
    'link set lo up',
    `address add ${addresses.allowed}/24 dev uplink`,
    `address add ${addresses.metadata}/32 dev uplink`,
    `address add ${addresses.allowed6}/64 dev uplink nodad`,
    `address add ${addresses.metadataTwin}/128 dev uplink nodad`,
    'link set uplink up',
  ])
  await all(inMachine, [
    `route add default via ${addresses.allowed}`,
    `-6 route add default via ${addresses.allowed6}`,
  ])
  const owned = cleanUp.move()
  return {
    machine: inMachine,
    network: inNetwork,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

/** A process that does nothing in a namespace of its own; it says so when it is there. */
function holdNamespace(): Promise<ManagedProcess> {
  return startProcess({
    command: 'unshare',
    args: ['--net', '--', 'sh', '-c', 'echo inside; exec sleep infinity'],
    ready: (started) => started.output().includes('inside'),
  })
}

function namespaceOf({ pid }: ManagedProcess): Namespace {
  const path = `/proc/${pid}/ns/net`
  return {
    path,
    run: (program, args) => runTimed('nsenter', [`--net=${path}`, '--', program, ...args]),
  }
}

async function must(place: Namespace, command: string): Promise<void> {
  const { exitCode, stderr } = await place.run('ip', command.split(' '))
  if (exitCode !== 0) throw new Error(`ip ${command}: ${stderr}`)
}
