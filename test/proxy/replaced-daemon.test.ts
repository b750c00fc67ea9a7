import { readFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { credentials, Metadata } from '@grpc/grpc-js'
import test, { type ExecutionContext } from 'ava'
import { ControlClient } from '../../proto/generated/buildkit/control.ts'
import { type Builder, startBuilder } from './builder.ts'

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

async function connect(t: ExecutionContext, builder: Builder): Promise<ControlClient> {
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
  return client
}

test('a client that waits for BuildKit is given the next one when the first dies', async (t) => {
  await using builder = await startBuilder()
  const client = await connect(t, builder)
  const version = await waitForAnswer(client)
  const first = await builder.daemon.pid()
  process.kill(first, 'SIGKILL')
  t.is(await waitForAnswer(client), version)
  t.not(await builder.daemon.pid(), first)
})

test('a call that is made while BuildKit dies is answered', async (t) => {
  await using builder = await startBuilder()
  const client = await connect(t, builder)
  await waitForAnswer(client)
  const pid = await builder.daemon.pid()
  // What is asked from now on is asked of one who never answers.
  process.kill(pid, 'SIGSTOP')
  const answers: Promise<Error | undefined>[] = []
  for (let call = 0; call < 40; call += 1) {
    if (call === 20) process.kill(pid, 'SIGKILL')
    const answer = new Promise<Error | undefined>((resolve) => {
      // No deadline: buildx has none for this either.
      client.listWorkers({ filter: [] }, (error) => resolve(error ?? undefined))
    })
    answers.push(answer)
    await delay(5)
  }
  const silence = delay(20_000, 'silence' as const, { ref: false })
  const errors = await Promise.race([Promise.all(answers), silence])
  if (errors === 'silence') return t.fail('a call was never answered')
  // Those that came late have been answered by the next BuildKit.
  for (const error of errors) {
    if (error !== undefined) t.regex(error.message, /UNAVAILABLE: BuildKit .* killed by SIGKILL/)
  }
  t.truthy(errors[0])
})
