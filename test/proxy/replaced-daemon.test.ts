import { readFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { credentials, Metadata } from '@grpc/grpc-js'
import test from 'ava'
import { ControlClient } from '../../proto/generated/buildkit/control.ts'
import { startBuilder } from './builder.ts'

/** As buildx asks while it waits for BuildKit: again and again, on the one connection that it has. */
async function waitForAnswer(client: ControlClient): Promise<string> {
  const limit = AbortSignal.timeout(20_000)
  for (;;) {
    const answer = await new Promise<string | Error>((resolve) => {
      const deadline = new Date(Date.now() + 5_000)
      client.info({}, new Metadata(), { deadline }, (error, info) => {
        resolve(error ?? info.buildkitVersion?.version ?? 'unknown')
      })
    })
    if (typeof answer === 'string') return answer
    if (limit.aborted) throw answer
    await delay(50)
  }
}

test('a client that waits for BuildKit is given the next one when the first dies', async (t) => {
  await using builder = await startBuilder()
  const { address, serverName, files } = builder.tls
  const [ca, key, certificate] = await Promise.all(
    [files.cacert, files.key, files.cert].map((file) => readFile(file)),
  )
  const client = new ControlClient(
    address,
    credentials.createSsl(ca ?? null, key ?? null, certificate ?? null),
    { 'grpc.ssl_target_name_override': serverName, 'grpc.enable_http_proxy': 0 },
  )
  t.teardown(() => client.close())
  const version = await waitForAnswer(client)
  const first = await builder.daemon.pid()
  process.kill(first, 'SIGKILL')
  t.is(await waitForAnswer(client), version)
  t.not(await builder.daemon.pid(), first)
})
