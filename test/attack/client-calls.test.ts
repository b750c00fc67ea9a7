/**
 * Raw calls of one build to reach another of the same scope, on the BuildKit that they share: its solves,
 * sessions, records and content; and calls that would harm everybody. Each attack has a control: the same
 * call where it may be made.
 */
import { randomUUID } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import { status } from '@grpc/grpc-js'
import anyTest, { type TestFn } from 'ava'
import { digestOf } from '../../core/digest.ts'
import { knownMethods } from '../../node/buildkit-runner/proxy/control-calls/index.ts'
import {
  BuildHistoryEvent,
  BuildHistoryRequest,
  SolveRequest,
  StatusRequest,
  UpdateBuildHistoryRequest,
} from '../../proto/generated/buildkit/control.ts'
import { SolveRequest as BridgeSolveRequest } from '../../proto/generated/buildkit/gateway.ts'
import { Definition, Op } from '../../proto/generated/buildkit/ops.ts'
import { encodeField, encodeMapEntry, fieldBytes, fieldText } from '../../proto/wire.ts'
import { createTemporaryFolder, runTimed } from '../harness/index.ts'
import { type Builder, startBuilder } from '../proxy/builder.ts'
import { clientKinds, createContext } from '../proxy/context.ts'
import { connectRaw, type RawClient } from './raw-client.ts'

const control = '/moby.buildkit.v1.Control'
const bridge = '/moby.buildkit.v1.frontend.LLBBridge'
const content = '/containerd.services.content.v1.Content'

const test = anyTest as TestFn<{ builder: Builder; owner: RawClient; other: RawClient }>

test.before(async (t) => {
  const builder = await startBuilder()
  t.context.builder = builder
  const { address, serverName } = builder.tls
  const connect = async (buildId: string) =>
    connectRaw(address, { serverName, files: await builder.credentials(buildId) })
  t.context.owner = await connect('owner')
  t.context.other = await connect('other')
})

test.after.always(async (t) => {
  t.context.owner?.[Symbol.dispose]()
  t.context.other?.[Symbol.dispose]()
  await t.context.builder?.[Symbol.asyncDispose]()
})

const newId = (): string => randomUUID().replaceAll('-', '')

function solveRequest(fields: Parameters<typeof SolveRequest.fromPartial>[0]): Uint8Array {
  return SolveRequest.encode(SolveRequest.fromPartial({ ref: newId(), ...fields })).finish()
}

/** A definition of these operations (fields of Op), the last of which is its result. */
function definitionOf(...operations: Uint8Array[]): Definition {
  const last = operations.at(-1) ?? Buffer.alloc(0)
  const result = Op.encode(Op.fromPartial({ inputs: [{ digest: digestOf(last), index: 0 }] }))
  return Definition.fromPartial({
    def: [...operations, result.finish()].map((op) => Buffer.from(op)),
  })
}

function source(identifier: string, attrs: Record<string, string> = {}): Uint8Array {
  return Op.encode(
    Op.fromPartial({
      op: { $case: 'source', value: { identifier, attrs } },
      platform: { os: 'linux', architecture: 'amd64' },
    }),
  ).finish()
}

/** A step on scratch, with further fields of ExecOp. */
function step(...fields: Uint8Array[]): Uint8Array {
  const exec = { meta: { args: ['/x'], cwd: '/' }, mounts: [{ input: -1, dest: '/' }] }
  const encoded = Op.encode(Op.fromPartial({ op: { $case: 'exec', value: exec } })).finish()
  const [plain = Buffer.alloc(0)] = fieldBytes(encoded, 2)
  return encodeField(2, Buffer.concat([plain, ...fields]))
}

/** One varint field. */
const number = (field: number, value: number): Uint8Array => Buffer.from([field << 3, value])

test.serial('every method that BuildKit serves has a rule', async (t) => {
  const { builder } = t.context
  using direct = await connectRaw(directAddress(builder), 'insecure')
  const served = await describeServices(direct)
  t.true(served.length > 20)
  t.deepEqual(served.toSorted(), knownMethods().toSorted())
})

function directAddress(builder: Builder): string {
  const { args } = builder.direct.buildctlCommand([])
  return args[args.indexOf('--addr') + 1] ?? ''
}

/** By reflection: list_services = 7; file_containing_symbol = 4 -> file descriptors = 4.1. */
async function describeServices(client: RawClient): Promise<string[]> {
  const ask = async (question: Uint8Array): Promise<Buffer> => {
    const { messages } = await client.stream(
      '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo',
      question,
    )
    return messages[0] ?? Buffer.alloc(0)
  }
  const listed = fieldBytes(await ask(encodeField(7, '*')), 6).flatMap((list) =>
    fieldBytes(list, 1),
  )
  const methods: string[] = []
  for (const name of listed.map((service) => fieldText(service, 1))) {
    const files = fieldBytes(await ask(encodeField(4, name)), 4).flatMap((list) =>
      fieldBytes(list, 1),
    )
    // FileDescriptorProto: package = 2, service = 6 { name = 1, method = 2 { name = 1 } }.
    for (const file of files) {
      for (const service of fieldBytes(file, 6)) {
        if (`${fieldText(file, 2)}.${fieldText(service, 1)}` !== name) continue
        for (const method of fieldBytes(service, 2))
          methods.push(`/${name}/${fieldText(method, 1)}`)
      }
    }
  }
  return methods
}

test.serial('a method that is not known is refused', async (t) => {
  for (const path of [`${control}/Shutdown`, '/containerd.services.leases.v1.Leases/List', '/x']) {
    t.is((await t.context.owner.unary(path, Buffer.alloc(0))).code, status.UNIMPLEMENTED, path)
  }
})

for (const [method, remedy] of [
  [`${control}/DiskUsage`, /hearth cache usage/],
  [`${control}/Prune`, /hearth cache reset/],
  [`${content}/List`, /history of your own builds/],
  [`${content}/ListStatuses`, /history of your own builds/],
  [`${content}/Delete`, /history of your own builds/],
  [`${content}/Write`, /history of your own builds/],
] as const) {
  test.serial(`${method} is refused, and the refusal says what to do instead`, async (t) => {
    const { code, details } = await t.context.owner.stream(method, Buffer.alloc(0))
    t.is(code, status.PERMISSION_DENIED)
    t.regex(details, remedy)
  })
}

test.serial('buildx is told what to do instead of measuring and pruning', async (t) => {
  const { through } = t.context.builder
  t.regex((await through.buildx(['du'])).stderr, /hearth cache usage/)
  t.regex((await through.buildx(['prune', '--force'])).stderr, /hearth cache reset/)
})

test.serial('what says nothing about builds is answered', async (t) => {
  const { owner, builder } = t.context
  for (const path of [
    `${control}/Info`,
    `${control}/ListWorkers`,
    '/grpc.health.v1.Health/Check',
  ]) {
    t.is((await owner.unary(path, Buffer.alloc(0))).code, status.OK, path)
  }
  const inspected = await builder.through.buildx(['inspect'])
  t.regex(inspected.stdout, /Platforms: +linux\/amd64/)
})

/** A finished build of the standby certificate's, with provenance. */
async function buildWithProvenance(builder: Builder): Promise<{ ref: string; provenance: object }> {
  await using context = await createContext(`RUN echo ${newId()}`)
  await using folder = await createTemporaryFolder('metadata')
  const file = path.join(folder.path, 'metadata.json')
  const built = await builder.through.buildx([
    ...['build', '--progress', 'plain', '--provenance', 'mode=max', '--metadata-file', file],
    context.path,
  ])
  if (built.exitCode !== 0) throw new Error(built.stderr)
  await builder.settled()
  const metadata = JSON.parse(await readFile(file, 'utf8'))
  return {
    ref: String(metadata['buildx.build.ref']).split('/').at(-1) ?? '',
    provenance: metadata['buildx.build.provenance'],
  }
}

async function history(client: RawClient, fields: Partial<BuildHistoryRequest>) {
  const request = BuildHistoryRequest.fromPartial({ earlyExit: true, ...fields })
  const { code, messages } = await client.stream(
    `${control}/ListenBuildHistory`,
    BuildHistoryRequest.encode(request).finish(),
  )
  return { code, records: messages.map((message) => BuildHistoryEvent.decode(message).record) }
}

test.serial('a build sees its own records, and nobody sees another', async (t) => {
  const { builder, other } = t.context
  const { address, serverName, files } = builder.tls
  using owner = await connectRaw(address, { serverName, files })
  const { ref, provenance } = await buildWithProvenance(builder)
  t.truthy(provenance)

  const own = await history(owner, { ref })
  t.deepEqual([own.code, own.records.map((record) => record?.ref)], [status.OK, [ref]])
  const all = await history(owner, { limit: 1 })
  t.deepEqual(
    all.records.map((record) => record?.ref),
    [ref],
  )
  t.deepEqual(await history(other, { ref }), { code: status.OK, records: [] })
  t.deepEqual(await history(other, {}), { code: status.OK, records: [] })

  const digest = own.records[0]?.result?.attestations[0]?.digest ?? ''
  const read = encodeField(1, digest)
  const mine = await owner.stream(`${content}/Read`, read)
  t.is(mine.code, status.OK)
  t.regex(String(mine.messages[0]), /slsa|buildType/)
  t.is((await owner.unary(`${content}/Info`, read)).code, status.OK)
  t.is((await other.stream(`${content}/Read`, read)).code, status.NOT_FOUND)
  t.is((await other.unary(`${content}/Info`, read)).code, status.NOT_FOUND)

  const update = (fields: Partial<UpdateBuildHistoryRequest>) =>
    UpdateBuildHistoryRequest.encode(
      UpdateBuildHistoryRequest.fromPartial({ ref, ...fields }),
    ).finish()
  const method = `${control}/UpdateBuildHistory`
  t.is((await other.unary(method, update({ delete: true }))).code, status.NOT_FOUND)
  t.is((await other.unary(method, update({ pinned: true }))).code, status.NOT_FOUND)
  t.is((await owner.unary(method, update({ pinned: true }))).code, status.PERMISSION_DENIED)
  t.is((await history(owner, { ref })).records.length, 1)
  t.is((await owner.unary(method, update({ delete: true }))).code, status.OK)
  t.is((await history(owner, { ref })).records.length, 0)
})

test.serial("buildx's own look at the history works", async (t) => {
  const { builder } = t.context
  const { ref } = await buildWithProvenance(builder)
  const listed = await builder.through.buildx(['history', 'ls', '--format', '{{.Ref}}'])
  t.regex(listed.stdout, new RegExp(ref), listed.stderr)
  const inspected = await builder.through.buildx(['history', 'inspect', ref])
  t.is(inspected.exitCode, 0, inspected.stderr)
  const logs = await builder.through.buildx(['history', 'logs', ref])
  t.regex(logs.stdout + logs.stderr, /RUN echo/)
})

test.serial('nobody watches, joins or replaces a solve of another build', async (t) => {
  const { owner, other } = t.context
  const ref = newId()
  // A solve that waits for its bridge to be driven.
  const solving = owner.unary(`${control}/Solve`, solveRequest({ ref }))
  const header = { 'buildkit-controlapi-buildid': ref }
  t.is((await owner.unary(`${bridge}/Ping`, Buffer.alloc(0), header)).code, status.OK)

  const watch = StatusRequest.encode({ ref }).finish()
  t.is((await other.stream(`${control}/Status`, watch)).code, status.NOT_FOUND)
  for (const method of ['Ping', 'Solve', 'Return', 'NewContainer', 'Inputs']) {
    const message = method === 'NewContainer' ? encodeField(1, newId()) : Buffer.alloc(0)
    const reply = await other.unary(`${bridge}/${method}`, message, header)
    t.is(reply.code, status.NOT_FOUND, method)
  }
  t.is((await other.open(`${bridge}/ExecProcess`, header).ended).code, status.NOT_FOUND)
  const again = await other.unary(`${control}/Solve`, solveRequest({ ref }))
  t.is(again.code, status.ALREADY_EXISTS)

  const empty = encodeField(1, Buffer.alloc(0))
  t.is((await owner.unary(`${bridge}/Return`, empty, header)).code, status.OK)
  t.is((await solving).code, status.OK)
  t.is((await owner.stream(`${control}/Status`, watch)).code, status.OK)
})

test.serial('a call for a solve that nobody has is refused', async (t) => {
  const header = { 'buildkit-controlapi-buildid': newId() }
  const { code } = await t.context.owner.unary(`${bridge}/Ping`, Buffer.alloc(0), header)
  t.is(code, status.NOT_FOUND)
  t.is(
    (await t.context.owner.unary(`${bridge}/Ping`, Buffer.alloc(0))).code,
    status.INVALID_ARGUMENT,
  )
})

test.serial("another build's session can be neither used nor taken over", async (t) => {
  const { owner, other } = t.context
  const session = newId()
  const opened = owner.open(`${control}/Session`, { 'x-docker-expose-session-uuid': session })
  // The claim is made before BuildKit hears of the session, which this call of the owner's proves.
  const named = (id: string) => [
    solveRequest({ session: id }),
    solveRequest({ session: `shared:${id}` }),
    Buffer.concat([solveRequest({}), encodeField(15, id)]),
    solveRequest({ definition: definitionOf(source('local://context', { 'local.session': id })) }),
    solveRequest({
      definition: definitionOf(source('oci-layout://x/y@sha256:0', { 'oci.session': id })),
    }),
    solveRequest({ frontend: 'dockerfile.v0', frontendAttrs: { 'local-sessionid:context': id } }),
  ]
  const taking = { 'x-docker-expose-session-uuid': session }
  t.is((await other.open(`${control}/Session`, taking).ended).code, status.PERMISSION_DENIED)
  for (const [index, request] of named(session).entries()) {
    const reply = await other.unary(`${control}/Solve`, request)
    t.is(reply.code, status.PERMISSION_DENIED, `${index}: ${reply.details}`)
    t.regex(reply.details, /session/)
  }
  // The owner may name it; what becomes of the calls is BuildKit's affair.
  const reply = await owner.unary(`${control}/Solve`, named(session)[3] ?? Buffer.alloc(0))
  t.not(reply.code, status.PERMISSION_DENIED, reply.details)
  opened.end()
  await opened.ended
})

test.serial('a step gets no entitlement, by no name and in no form', async (t) => {
  const { owner, builder } = t.context
  for (const entitlement of ['network.host', 'security.insecure', 'device=vendor.com/device=x']) {
    const named = await owner.unary(
      `${control}/Solve`,
      solveRequest({ entitlements: [entitlement] }),
    )
    t.is(named.code, status.PERMISSION_DENIED)
    t.true(named.details.includes(entitlement), named.details)
  }
  // ExecOp: network = 3 (HOST = 1), security = 4 (INSECURE = 1), cdi_devices = 6 { name = 1 }.
  for (const [what, field] of [
    ['network.host', number(3, 1)],
    ['security.insecure', number(4, 1)],
    ['vendor.com/device=x', encodeField(6, encodeField(1, 'vendor.com/device=x'))],
  ] as const) {
    const definition = definitionOf(step(field))
    const reply = await owner.unary(`${control}/Solve`, solveRequest({ definition }))
    t.not(reply.code, status.OK)
    t.true(reply.details.includes(what), reply.details)
  }
  await using context = await createContext('RUN --network=host echo never')
  const built = await builder.through.buildx(
    clientKinds.buildx(context.path, { flags: ['--allow', 'network.host'] }),
  )
  t.not(built.exitCode, 0)
  t.regex(built.stderr, /network\.host/)
})

test.serial('a step runs in no control group of its choice', async (t) => {
  const { owner, builder } = t.context
  const marker = newId()
  await using context = await createContext(`RUN echo ${marker}`)
  const built = await builder.through.buildctl(
    clientKinds.buildctl(context.path, { flags: ['--opt', `cgroup-parent=/group-${marker}`] }),
  )
  t.is(built.exitCode, 0, built.stderr)
  await builder.settled()
  t.is(await builder.runs(marker), 1)
  t.is(await builder.runs(`group-${marker}`), 0)
  // In an operation: Meta.cgroup_parent = 10.
  const definition = definitionOf(step(encodeField(1, encodeField(10, 'group'))))
  for (const call of [
    () => owner.unary(`${control}/Solve`, solveRequest({ definition })),
    () =>
      owner.unary(
        `${bridge}/Solve`,
        BridgeSolveRequest.encode(BridgeSolveRequest.fromPartial({ definition })).finish(),
        { 'buildkit-controlapi-buildid': newId() },
      ),
  ]) {
    const reply = await call()
    t.is(reply.code, status.PERMISSION_DENIED)
    t.regex(reply.details, /cgroup-parent/)
  }
})

test.serial('a source names no repository on the disk of the node', async (t) => {
  await using folder = await createTemporaryFolder('repository')
  const git = (...args: string[]) =>
    runTimed('git', ['-c', 'user.name=test', '-c', 'user.email=test@example.com', ...args], {
      cwd: folder.path,
    })
  await writeFile(path.join(folder.path, 'secret'), "the node's own")
  for (const args of [
    ['init', '--quiet', '--initial-branch', 'main'],
    ['add', 'secret'],
    ['commit', '--quiet', '--message', 'first'],
  ]) {
    t.is((await git(...args)).exitCode, 0)
  }
  t.is((await git('ls-remote', `file://${folder.path}`)).exitCode, 0)
  for (const url of [`file://${folder.path}`, folder.path]) {
    const definition = definitionOf(source('git://192.0.2.1/x.git', { 'git.fullurl': url }))
    const reply = await t.context.owner.unary(`${control}/Solve`, solveRequest({ definition }))
    t.regex(reply.details, /does not match/)
  }
})

test.serial(
  'a definition that BuildKit finds in a snapshot chooses no control group either',
  async (t) => {
    const { owner, builder } = t.context
    const busybox = makeFile('/busybox', await readFile('/bin/busybox'), 0o755)
    const hidden = (group: string, marker: string): Uint8Array => {
      const meta = { args: ['/busybox', 'echo', marker], cwd: '/' }
      const exec = { meta, mounts: [{ input: 0, dest: '/' }] }
      const inputs = [{ digest: digestOf(busybox), index: 0 }]
      const plain = Op.encode(
        Op.fromPartial({ inputs, op: { $case: 'exec', value: exec } }),
      ).finish()
      const wish = group === '' ? [] : [encodeField(2, encodeField(1, encodeField(10, group)))]
      const step = Buffer.concat([plain, ...wish])
      return Definition.encode(definitionOf(busybox, step)).finish()
    }
    for (const [group, outcome] of [
      ['', 1],
      ['another', 0],
    ] as const) {
      const marker = newId()
      const file = makeFile('/definition', Buffer.from(hidden(group, marker)), 0o644)
      // BuildOp: builder = 1 (LLB = -1), inputs = 2 { key = 1, value = 2 { input = 1 } }, attrs = 4.
      const input = encodeMapEntry(2, 'buildkit.llb.definition', number(1, 0))
      const name = encodeMapEntry(4, 'llbbuild.filename', '/definition')
      const operation = Buffer.concat([
        Op.encode(Op.fromPartial({ inputs: [{ digest: digestOf(file), index: 0 }] })).finish(),
        encodeField(5, Buffer.concat([minusOne(1), input, name])),
      ])
      const definition = definitionOf(file, operation)
      const reply = await owner.unary(`${control}/Solve`, solveRequest({ definition }))
      t.log(reply.details)
      t.is(reply.code === status.OK, outcome === 1, reply.details)
      t.is(await builder.runs(marker), outcome)
    }
  },
)

/** An int64 field of -1. */
function minusOne(field: number): Uint8Array {
  return new BinaryWriter().tag(field, WireType.Varint).int64(-1).finish()
}

/** FileOp on scratch that makes one file; see test/proxy/direct-solve.test.ts. */
function makeFile(name: string, bytes: Buffer, mode: number): Buffer {
  const file = new BinaryWriter()
  file.raw(encodeField(1, name))
  file.tag(2, WireType.Varint).int32(mode)
  file.raw(encodeField(3, bytes))
  file.tag(5, WireType.Varint).int64(-1)
  const action = Buffer.concat([minusOne(1), minusOne(2), encodeField(5, file.finish())])
  const platform = { os: 'linux', architecture: 'amd64' }
  return Buffer.concat([
    encodeField(4, encodeField(2, action)),
    Op.encode(Op.fromPartial({ platform })).finish(),
  ])
}
