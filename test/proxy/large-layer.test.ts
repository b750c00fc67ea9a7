/** A large new layer: the client has its answer before the cache is kept, and keeping it copies nothing. */
import anyTest, { type TestFn } from 'ava'
import { parseDigest } from '../../core/digest.ts'
import { KeepOutcome, StepOutcome } from '../../proto/generated/hearth/v1/build.ts'
import { fetchImage, startUpstreamRegistry, type UpstreamRegistry } from '../harness/index.ts'
import { type Builder, startBuilder } from './builder.ts'
import { clientKinds, createContext, writeContext } from './context.ts'

const test = anyTest as TestFn<{ builder: Builder; upstream: UpstreamRegistry }>

test.before(async (t) => {
  t.context.upstream = await startUpstreamRegistry()
  t.context.builder = await startBuilder({ reach: [t.context.upstream.host] })
})

test.after.always(async (t) => {
  const { builder, upstream } = t.context
  for (const part of [builder, upstream]) await part?.[Symbol.asyncDispose]()
})

const layerBytes = 200_000_000

test('a pushed layer is in the cache store by a link, and the next build begins without waiting', async (t) => {
  const { builder, upstream } = t.context
  await using context = await createContext(
    `RUN head -c ${layerBytes} /dev/urandom > /large\nCOPY source /source`,
    { source: 'first' },
  )
  const output = `type=image,name=${upstream.host}/app:large,push=true`
  const args = clientKinds.buildx(context.path, { output })
  const built = await builder.through.buildx(args)
  t.is(built.exitCode, 0, built.stderr)
  // The client has gone; what it left is still to be kept.
  const pending = builder.reports.at(-1)
  t.not(pending?.keep, KeepOutcome.KEEP_OUTCOME_KEPT)

  await writeContext(context.path, { source: 'second' })
  const next = await builder.through.buildx(args)
  t.is(next.exitCode, 0, next.stderr)

  const first = await builder.settled()
  t.is(first.keep, KeepOutcome.KEEP_OUTCOME_KEPT, first.keepReason)
  t.true(first.cacheBytesLinked > layerBytes)
  t.true(first.cacheBytesKept - first.cacheBytesLinked < 100_000, 'only the record is uploaded')
  const second = await builder.settled()
  t.is(second.keep, KeepOutcome.KEEP_OUTCOME_KEPT, second.keepReason)
  t.is(
    second.steps.find((step) => step.name.includes('urandom'))?.outcome,
    StepOutcome.STEP_OUTCOME_REUSED,
  )
  const { layers } = await fetchImage(upstream.host, 'app', 'large')
  const sizes = layers.map((layer) => builder.store.stat(builder.scope, parseDigest(layer))?.size)
  t.true(sizes.every((size) => size !== undefined))
  t.true(sizes.some((size) => (size ?? 0) > layerBytes))
})
