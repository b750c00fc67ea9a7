/** What steps, and BuildKit on their behalf, can reach of the node they run on. */
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import { type AddressInfo, createServer as createListener, type Server } from 'node:net'
import anyTest, { type TestFn } from 'ava'
import { createTestNetwork, insideOf } from '../../node/buildkit-runner/daemon/network-fixture.ts'
import { type Builder, startBuilder } from './builder.ts'
import { clientKinds, createContext } from './context.ts'

const test = anyTest as TestFn<{ builder: Builder }>

test.before(async (t) => {
  t.context.builder = await startBuilder()
})

test.after.always(async (t) => {
  await t.context.builder?.[Symbol.asyncDispose]()
})

/** Serves "reached" and remembers who asked for what. */
function serveOn(listener: Server): { asked: string[]; [Symbol.dispose](): void } {
  const asked: string[] = []
  const server = createServer((request, response) => {
    asked.push(request.url ?? '')
    response.end('reached')
  })
  server.listen(listener)
  return {
    asked,
    [Symbol.dispose]() {
      server.closeAllConnections()
      server.close()
    },
  }
}

async function listenOnMachine(host: string): Promise<{ listener: Server; port: number }> {
  const listener = createListener()
  listener.listen(0, host)
  await once(listener, 'listening')
  return { listener, port: (listener.address() as AddressInfo).port }
}

/** Says of each URL whether a step gets an answer from it. (Debian's busybox crashes at `wget -T`.) */
const tryAll = [
  'gateway=$(ip route | sed -n "s/^default via \\([^ ]*\\).*/\\1/p")',
  'while read -r url; do',
  '  url=$(echo "$url" | sed "s/GATEWAY/$gateway/")',
  '  answer=$(timeout 20 wget -q -O - "$url" 2>&1 </dev/null) && echo "REACHED $url" || echo "FAILED $url: $answer"',
  'done </urls',
].join('\n')

/** What a step, and BuildKit by `ADD`, gets of each URL. */
async function tryFromBuild(builder: Builder, urls: readonly string[]) {
  const dockerfile = 'COPY try.sh urls /\nRUN sh /try.sh'
  const files = { 'try.sh': tryAll, urls: `${urls.join('\n')}\n` }
  await using context = await createContext(dockerfile, files)
  const stepped = await builder.through.buildctl(clientKinds.buildctl(context.path))
  const lines = [...stepped.stderr.matchAll(/^#\d+ [\d.]+ ((?:REACHED|FAILED) .*)$/gm)]
  const added: string[] = []
  for (const url of urls.filter((each) => !each.includes('GATEWAY'))) {
    await using one = await createContext(`ADD ${url} /answer`)
    const { exitCode, stderr } = await builder.through.buildctl(clientKinds.buildctl(one.path))
    added.push(exitCode === 0 ? `REACHED ${url}` : `FAILED ${url}: ${stderr.slice(-2000)}`)
  }
  return { step: lines.map(([, line = '']) => line), add: added }
}

const reachedOf = (lines: readonly string[]): string[] =>
  lines.filter((line) => line.startsWith('REACHED')).map((line) => line.split(' ')[1] ?? '')

test.serial('steps and BuildKit’s own fetches reach the network', async (t) => {
  await using network = await createTestNetwork()
  using server = serveOn(await network.listen(network.address, 8000))
  const urls = [`http://${network.address}:8000/file`]
  const { step, add } = await tryFromBuild(t.context.builder, urls)
  t.deepEqual(reachedOf(step), urls, step.join())
  t.deepEqual(reachedOf(add), urls, add.join())
  t.true(server.asked.length >= 2)
})

test.serial(
  'nothing of this machine is reached by a step or by BuildKit, by no name of it',
  async (t) => {
    const { builder } = t.context
    await using network = await createTestNetwork()
    const everywhere = await listenOnMachine('0.0.0.0')
    const loopback = await listenOnMachine('127.0.0.1')
    using one = serveOn(everywhere.listener)
    using two = serveOn(loopback.listener)
    const { machineAddress } = await linkOf(builder)
    const urls = [
      ...[everywhere.port, loopback.port].flatMap((port) => [
        `http://127.0.0.1:${port}/`,
        `http://localhost:${port}/`,
        `http://GATEWAY:${port}/`,
        `http://${machineAddress}:${port}/`,
        `http://${network.machineAddress}:${port}/`,
      ]),
      // For a step there is no registry; BuildKit's own question is answered by 404.
      ...['hearth.cache', '127.0.0.2', 'GATEWAY'].map(
        (host) => `http://${host}:${builder.registryPort}/v2/a/b/manifests/c`,
      ),
    ]
    const { step, add } = await tryFromBuild(builder, urls)
    t.is(step.length, urls.length)
    t.deepEqual(reachedOf(step), [])
    t.deepEqual(
      step.filter((line) => /404/.test(line)),
      [],
    )
    t.deepEqual(
      step.filter((line) => /timed out/.test(line)),
      [],
      'refusals are answers',
    )
    t.deepEqual(reachedOf(add), [])
    t.deepEqual([...one.asked, ...two.asked], [])
  },
)

test.serial(
  'link-local addresses, a cloud’s credentials among them, are not reached',
  async (t) => {
    await using network = await createTestNetwork()
    const metadata = `169.254.${randomInt(1, 255)}.${randomInt(1, 255)}`
    await network.addAddress(metadata)
    using server = serveOn(await network.listen(metadata, 80))
    // A way round: somebody else's server that redirects there.
    const redirect = createServer((_request, response) => {
      response.writeHead(302, { location: `http://${metadata}/latest` }).end()
    })
    redirect.listen(await network.listen(network.address, 8000))
    try {
      t.is(await (await fetch(`http://${metadata}/control`)).text(), 'reached')
      const urls = [`http://${metadata}/latest`, `http://${network.address}:8000/`]
      const { step, add } = await tryFromBuild(t.context.builder, urls)
      t.is(step.length, 2)
      t.deepEqual(reachedOf([...step, ...add]), [])
      t.deepEqual(server.asked, ['/control'])
    } finally {
      redirect.closeAllConnections()
      redirect.close()
    }
  },
)

test.serial(
  'a loopback port is reached where that is wished, by BuildKit and by no step',
  async (t) => {
    const { builder } = t.context
    const { listener, port } = await listenOnMachine('127.0.0.1')
    using _server = serveOn(listener)
    const { machineAddress } = await linkOf(builder)
    const urls = [`http://127.0.0.1:${port}/`, `http://localhost:${port}/`]
    const others = [`http://GATEWAY:${port}/`, `http://${machineAddress}:${port}/`]
    await builder.daemons.reach([port])
    try {
      const { step, add } = await tryFromBuild(builder, [...urls, ...others])
      t.deepEqual(reachedOf(step), [], step.join())
      t.deepEqual(reachedOf(add).slice(0, 2), urls, add.join())
    } finally {
      await builder.daemons.reach([])
    }
    const { add } = await tryFromBuild(builder, [`http://127.0.0.1:${port}/again`])
    t.deepEqual(reachedOf(add), [])
  },
)

test.serial('a step can change neither its network nor the rules about it', async (t) => {
  const attempts = [
    'ip link set dev eth0 down',
    'ip address add 10.99.99.99/24 dev eth0',
    'ip route add 169.254.0.0/16 dev eth0',
    'ip link add dummy type dummy',
    'mount -t proc proc /mnt',
    'echo 1 >/proc/sys/net/ipv4/ip_forward',
  ]
  const lines = attempts.map((attempt) => `(${attempt}) 2>/dev/null && echo "DID ${attempt}"`)
  await using context = await createContext('COPY try.sh /\nRUN mkdir /mnt; sh /try.sh', {
    'try.sh': [...lines, 'ip route | grep -q default && echo "tried all"'].join('\n'),
  })
  const built = await t.context.builder.through.buildctl(clientKinds.buildctl(context.path))
  t.is(built.exitCode, 0, built.stderr)
  t.regex(built.stderr, /^#\d+ [\d.]+ tried all$/m)
  t.notRegex(built.stderr, /^#\d+ [\d.]+ DID/m)
})

/** The addresses of the link of the builder's daemon, as the machine sees it. */
async function linkOf(builder: Builder) {
  const pid = await builder.daemon.pid()
  const addresses = await insideOf(pid, ['ip', '-4', '-o', 'address', 'show', 'dev', 'eth0'])
  const inside = /inet (\d+\.\d+\.\d+)\.2\/30/.exec(addresses)?.[1]
  if (inside === undefined) throw new Error(`no link: ${addresses}`)
  return { machineAddress: `${inside}.1` }
}

test.serial('a step sees neither the node’s environment nor its files', async (t) => {
  const { builder } = t.context
  await using context = await createContext('RUN env; ls /; cat /proc/1/cmdline')
  const built = await builder.through.buildctl(clientKinds.buildctl(context.path), {
    env: { HEARTH_TEST_WITNESS: 'only the client has this' },
  })
  t.is(built.exitCode, 0, built.stderr)
  t.notRegex(built.stderr, /HEARTH_|only the client has this/)
})

for (const [entitlement, option] of [
  ['network.host', '--network=host'],
  ['security.insecure', '--security=insecure'],
] as const) {
  test.serial(`${entitlement} is refused, even to a client that allows it`, async (t) => {
    const { builder } = t.context
    await using context = await createContext(`RUN ${option} echo privileged`)
    const args = clientKinds.buildctl(context.path, { flags: ['--allow', entitlement] })
    const built = await builder.through.buildctl(args)
    t.not(built.exitCode, 0)
    t.regex(built.stderr, new RegExp(`not given the entitlement ${entitlement}`))
    t.is(await builder.runs('echo privileged'), 0)
  })
}
