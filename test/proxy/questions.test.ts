/** What a client asks of BuildKit without building is answered on a node that is full; what runs a step waits. */
import { setTimeout as delay } from 'node:timers/promises'
import test from 'ava'
import { startProcess } from '../harness/index.ts'
import { startBuilder } from './builder.ts'
import { clientKinds, createContext } from './context.ts'

test('operations are told while every slot is taken, and a build waits', async (t) => {
  t.timeout(180_000)
  await using builder = await startBuilder({ slots: 1 })
  await using long = await createContext(
    'RUN echo the long one; until [ -e /gone ]; do sleep 1; done',
  )
  await using short = await createContext('RUN echo the short one')
  const { command, args, env } = builder.through.buildxCommand(clientKinds.buildx(long.path))
  await using taken = await startProcess({ command, args, env })
  await builder.running('the long one')

  const asked = await builder.through.buildx([
    ...['build', '--call', 'convertllb,format=json', '--progress', 'quiet', short.path],
  ])
  t.is(asked.exitCode, 0, asked.stderr)
  t.regex(asked.stdout, /the short one/)

  const built = builder.through.buildctl(clientKinds.buildctl(short.path))
  t.is(await Promise.race([built, delay(1_000, 'still waiting')]), 'still waiting')
  t.is(await builder.runs('the short one'), 0)
  await taken.stop({ signal: 'SIGINT', limitMs: 60_000 })
  t.is((await built).exitCode, 0)
})
