/**
 * For tests: "the network" that builds are meant to reach, and the addresses that they are not. It is a
 * network namespace of the test's own, behind a link of this machine; no packet leaves the machine.
 */
import { spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import type { Server } from 'node:net'
import { listenInside } from './inside-listener.ts'
import { commandOutput, runCommand } from './system-command.ts'

export interface TestNetwork extends AsyncDisposable {
  /** A process that holds the namespace. */
  readonly pid: number
  /** Of something in the network, and of this machine's end of the link to it. */
  readonly address: string
  readonly machineAddress: string
  /** One more address in the network, to which this machine gets a route: a metadata service's, say. */
  addAddress(address: string): Promise<void>
  /** A listener on an address of the network. Closed with the network. */
  listen(host: string, port: number): Promise<Server>
}

const limitMs = 30_000

export async function createTestNetwork(): Promise<TestNetwork> {
  await using cleanUp = new AsyncDisposableStack()
  const { pid, ...namespace } = await createNamespace()
  cleanUp.use(namespace)
  const link = `htt${randomInt(16 ** 8).toString(16)}`
  // From the range for tests between networks (RFC 2544), a /30 that nobody else has picked.
  const first = 4 * randomInt(2 ** 14)
  const address = (offset: number): string =>
    `198.18.${Math.floor(first / 256)}.${(first % 256) + offset}`
  const [machineAddress, inside] = [address(1), address(2)]
  await ip(['link', 'add', 'dev', link, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', `${pid}`])
  cleanUp.defer(async () => {
    await runCommand('ip', ['link', 'delete', 'dev', link])
  })
  await ip(['address', 'add', `${machineAddress}/30`, 'dev', link])
  await ip(['link', 'set', 'dev', link, 'up'])
  await insideOf(pid, ['ip', 'link', 'set', 'dev', 'lo', 'up'])
  await insideOf(pid, ['ip', 'address', 'add', `${inside}/30`, 'dev', 'eth0'])
  await insideOf(pid, ['ip', 'link', 'set', 'dev', 'eth0', 'up'])
  await insideOf(pid, ['ip', 'route', 'add', 'default', 'via', machineAddress])
  const owned = cleanUp.move()
  return {
    pid,
    address: inside,
    machineAddress,
    async addAddress(more) {
      await insideOf(pid, ['ip', 'address', 'add', `${more}/32`, 'dev', 'lo'])
      // Goes with the link.
      await ip(['route', 'add', `${more}/32`, 'via', inside, 'dev', link])
    },
    async listen(host, port) {
      const listener = await listenInside(
        { pid, host, port },
        { limitMs, signal: AbortSignal.timeout(limitMs) },
      )
      owned.defer(() => void listener.close())
      return listener
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

/** A network namespace with nothing in it, held by a process. */
export async function createNamespace(): Promise<AsyncDisposable & { pid: number }> {
  const holder = spawn('unshare', ['--net', 'sh', '-c', 'echo inside; read -r _'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  await once(holder.stdout, 'data')
  const { pid } = holder
  if (pid === undefined) throw new Error('unshare did not start')
  return {
    pid,
    async [Symbol.asyncDispose]() {
      const ended = once(holder, 'exit')
      holder.stdin.end()
      await ended
    },
  }
}

/** Runs a program in the network of a process. */
export function insideOf(pid: number, command: readonly string[]): Promise<string> {
  return commandOutput('nsenter', [`--net=/proc/${pid}/ns/net`, '--', ...command])
}

export type Reply = { type: 'answered'; text: string } | { type: 'refused' } | { type: 'silence' }

const question = `
exec 3<>"/dev/tcp/$1/$2" || exit 1
printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3
cat <&3
`

/** Asks a TCP port by HTTP from the network of a process; silence is what lasts so long. */
export async function ask(
  pid: number,
  address: string,
  port: number,
  silenceSeconds = 20,
): Promise<Reply> {
  const answer = await runCommand('nsenter', [
    ...[
      `--net=/proc/${pid}/ns/net`,
      '--',
      'timeout',
      `${silenceSeconds}`,
      'bash',
      '-c',
      question,
      'ask',
    ],
    ...[address, `${port}`],
  ])
  const body = answer.stdout.split('\r\n\r\n')[1]
  if (body !== undefined) return { type: 'answered', text: body }
  return { type: answer.exitCode === 124 ? 'silence' : 'refused' }
}

async function ip(args: readonly string[]): Promise<void> {
  await commandOutput('ip', args)
}
