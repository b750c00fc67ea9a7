/**
 * Clients that drive no gateway: they hand BuildKit a definition or a frontend in Control.Solve and let it
 * do the rest. Their cache is kept and found all the same.
 */
import { randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import { Client, credentials } from '@grpc/grpc-js'
import anyTest, { type TestFn } from 'ava'
import { digestOf } from '../../core/digest.ts'
import { ControlService, SolveRequest } from '../../proto/generated/buildkit/control.ts'
import { Definition, Op } from '../../proto/generated/buildkit/ops.ts'
import { KeepOutcome, StepOutcome } from '../../proto/generated/hearth/v1/build.ts'
import { encodeField } from '../../proto/wire.ts'
import { type Builder, startBuilder } from './builder.ts'

const test = anyTest as TestFn<{ builder: Builder }>

test.before(async (t) => {
  t.context.builder = await startBuilder()
})

test.after.always(async (t) => {
  await t.context.builder?.[Symbol.asyncDispose]()
})

/** FileOp on scratch that makes one file: actions = 2 { input = 1, secondary = 2, output = 3, mkfile = 5 }. */
function makeFile(path: string, content: string | Buffer, mode: number): Buffer {
  const file = new BinaryWriter()
  file.raw(encodeField(1, path))
  file.tag(2, WireType.Varint).int32(mode)
  file.raw(encodeField(3, content))
  file.tag(5, WireType.Varint).int64(-1)
  const action = new BinaryWriter()
  action.tag(1, WireType.Varint).int64(-1)
  action.tag(2, WireType.Varint).int64(-1)
  action.raw(encodeField(5, file.finish()))
  const fileOp = encodeField(2, action.finish())
  const platform = Op.encode(
    Op.fromPartial({ platform: { os: 'linux', architecture: 'amd64' } }),
  ).finish()
  return Buffer.concat([encodeField(4, fileOp), platform])
}

/** A definition of one operation, or of a step that runs a command on its result. */
function definitionOf(file: Buffer, command?: readonly string[]): Definition {
  const def = [file]
  const add = (fields: Parameters<typeof Op.fromPartial>[0]): string => {
    const input = { digest: digestOf(def.at(-1) ?? file), index: 0 }
    const op = Op.encode(Op.fromPartial({ inputs: [input], ...fields })).finish()
    def.push(Buffer.from(op))
    return digestOf(op)
  }
  const names: Record<string, string> = { [digestOf(file)]: 'make a file' }
  if (command !== undefined) {
    const mounts = [{ dest: '/' }]
    const step = add({
      op: { $case: 'exec', value: { meta: { args: [...command], cwd: '/' }, mounts } },
      platform: { os: 'linux', architecture: 'amd64' },
    })
    names[step] = 'run a command'
  }
  add({})
  const metadata = Object.entries(names).map(([digest, name]) => [
    digest,
    { description: { 'llb.customname': name } },
  ])
  return Definition.fromPartial({ def, metadata: Object.fromEntries(metadata) })
}

async function solve(
  builder: Builder,
  fields: Parameters<typeof SolveRequest.fromPartial>[0],
): Promise<void> {
  const { address, files, serverName } = builder.tls
  const [ca, key, cert] = await Promise.all(
    [files.cacert, files.key, files.cert].map((file) => readFile(file)),
  )
  const client = new Client(address, credentials.createSsl(ca ?? null, key ?? null, cert ?? null), {
    'grpc.ssl_target_name_override': serverName,
  })
  const method = ControlService.solve
  try {
    await new Promise<void>((resolve, reject) => {
      client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        SolveRequest.fromPartial({ ref: randomUUID().replaceAll('-', ''), ...fields }),
        (error) => (error === null ? resolve() : reject(error)),
      )
    })
  } finally {
    client.close()
  }
}

test.serial('a solve by definition runs its step once, is kept, and found again', async (t) => {
  const { builder } = t.context
  const marker = `definition ${randomUUID()}`
  const busybox = makeFile('/busybox', await readFile('/bin/busybox'), 0o755)
  const command = ['/busybox', 'sh', '-c', `echo ${marker} > /made`]
  const request = { definition: definitionOf(busybox, command) }
  await solve(builder, request)
  const first = await builder.settled()
  t.is(first.keep, KeepOutcome.KEEP_OUTCOME_KEPT, first.keepReason)
  t.is(await builder.runs(marker), 1)
  await builder.forgetBuildkit()
  await solve(builder, request)
  const again = await builder.settled()
  t.true(again.steps.every((step) => step.outcome === StepOutcome.STEP_OUTCOME_REUSED))
  t.is(await builder.runs(marker), 1)
})

/** A Dockerfile build whose context is a definition too, so that it needs no session. */
async function frontendRequest(command: string, attributes: Record<string, string> = {}) {
  const dockerfile = `FROM scratch\nCOPY busybox /busybox\nRUN ["/busybox", "echo", "${command}"]`
  return {
    frontend: 'dockerfile.v0',
    frontendAttrs: attributes,
    frontendInputs: {
      dockerfile: definitionOf(makeFile('/Dockerfile', dockerfile, 0o644)),
      context: definitionOf(makeFile('/busybox', await readFile('/bin/busybox'), 0o755)),
    },
  }
}

test.serial('a solve by frontend runs its steps once, is kept, and found again', async (t) => {
  const { builder } = t.context
  const marker = `frontend ${randomUUID()}`
  const request = await frontendRequest(marker)
  await solve(builder, request)
  const first = await builder.settled()
  t.is(first.keep, KeepOutcome.KEEP_OUTCOME_KEPT, first.keepReason)
  t.is(await builder.runs(marker), 1)
  await builder.forgetBuildkit()
  await solve(builder, request)
  const again = await builder.settled()
  t.true(again.steps.every((step) => step.outcome === StepOutcome.STEP_OUTCOME_REUSED))
  t.is(await builder.runs(marker), 1)
})

test.serial('a solve by frontend that ignores the cache runs its steps once more', async (t) => {
  const { builder } = t.context
  const marker = `uncached ${randomUUID()}`
  await solve(builder, await frontendRequest(marker))
  await builder.settled()
  await solve(builder, await frontendRequest(marker, { 'no-cache': '' }))
  await builder.settled()
  t.is(await builder.runs(marker), 2)
})
