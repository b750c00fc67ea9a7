/** What a step can reach of the node it runs on. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import anyTest, { type TestFn } from 'ava'
import { type Builder, startBuilder } from './builder.ts'
import { clientKinds, createContext } from './context.ts'

const test = anyTest as TestFn<{ builder: Builder }>

test.before(async (t) => {
  t.context.builder = await startBuilder()
})

test.after.always(async (t) => {
  await t.context.builder?.[Symbol.asyncDispose]()
})

test.serial('a step reaches no port on the loopback interface, by no name of it', async (t) => {
  const { builder } = t.context
  // What any server on loopback would be, the registry with everybody's cache among them.
  const server = createServer((_request, response) => response.end('reached'))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  try {
    const script = [
      "gateway=$(ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p')",
      `for port in ${port} ${builder.registryPort}; do`,
      '  for host in 127.0.0.1 localhost hearth.cache "$gateway"; do',
      '    wget -T 2 -q -O - "http://$host:$port/v2/" && echo "REACHED $host:$port"',
      '  done',
      'done',
      'echo "tried gateway $gateway"',
    ]
    await using context = await createContext('COPY try.sh /try.sh\nRUN sh /try.sh', {
      'try.sh': script.join('\n'),
    })
    const built = await builder.through.buildctl(clientKinds.buildctl(context.path))
    t.is(built.exitCode, 0, built.stderr)
    // The attempts were real: there was a gateway to try.
    t.regex(built.stderr, /tried gateway \d+\.\d+\.\d+\.\d+/)
    const output = built.stderr.split('\n').filter((line) => /^#\d+ [\d.]+ /.test(line))
    t.deepEqual(
      output.filter((line) => /reached|REACHED|errors/.test(line)),
      [],
    )
  } finally {
    server.close()
  }
})

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
    t.regex(built.stderr, new RegExp(`${entitlement} is not allowed`))
    t.is(await builder.runs('echo privileged'), 0)
  })
}
