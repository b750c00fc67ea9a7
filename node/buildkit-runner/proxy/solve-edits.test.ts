import test from 'ava'
import { CacheOptionsEntry, SolveRequest } from '../../../proto/generated/buildkit/control.ts'
import {
  SolveRequest as BridgeSolveRequest,
  SolveResponse as BridgeSolveResponse,
  ReturnRequest,
} from '../../../proto/generated/buildkit/gateway.ts'
import { Definition, OpMetadata } from '../../../proto/generated/buildkit/ops.ts'
import { encodeField } from '../../../proto/wire.ts'
import {
  bridgeSolveOf,
  definitionImportsOf,
  imageCompressionOf,
  replyRefs,
  returnedRefs,
  sharedSolveFields,
  withBridgeImport,
  withControlImport,
  withoutIgnoreCache,
  withRef,
  withRefIds,
} from './solve-edits.ts'

const entry = { type: 'registry', attributes: { ref: 'cache/x:record' } }
const unknown = encodeField(777, 'from a newer client')

function bridgeMessage(fields: Parameters<typeof BridgeSolveRequest.fromPartial>[0]): Buffer {
  const encoded = BridgeSolveRequest.encode(BridgeSolveRequest.fromPartial(fields)).finish()
  return Buffer.concat([encoded, unknown])
}

function controlMessage(fields: Parameters<typeof SolveRequest.fromPartial>[0]): Buffer {
  const encoded = SolveRequest.encode(SolveRequest.fromPartial(fields)).finish()
  return Buffer.concat([encoded, unknown])
}

test("our import joins the client's own in the frontend option", (t) => {
  const own = { Type: 'gha', Attrs: { scope: 'theirs' } }
  const message = bridgeMessage({
    frontend: 'dockerfile.v0',
    frontendOpt: { 'cache-imports': JSON.stringify([own]), target: 'x' },
  })
  const edited = withBridgeImport(message, entry)
  const options = BridgeSolveRequest.decode(edited).frontendOpt
  t.is(options.target, 'x')
  t.deepEqual(JSON.parse(options['cache-imports'] ?? ''), [
    own,
    { Type: 'registry', Attrs: entry.attributes },
  ])
  t.true(edited.includes(Buffer.from(unknown)))
})

test('a frontend option that cannot be read stays as the client wrote it', (t) => {
  const message = bridgeMessage({ frontend: 'x', frontendOpt: { 'cache-imports': '{' } })
  t.deepEqual(withBridgeImport(message, entry), message)
})

test('a solve by definition takes the import as a field', (t) => {
  const edited = withBridgeImport(bridgeMessage({ definition: { def: [Buffer.from('x')] } }), entry)
  t.deepEqual(BridgeSolveRequest.decode(edited).cacheImports, [
    CacheOptionsEntry.fromPartial({ type: 'registry', attrs: entry.attributes }),
  ])
  t.deepEqual(
    definitionImportsOf(edited),
    definitionImportsOf(withBridgeImport(bridgeMessage({}), entry)),
  )
})

test('imports named in the frontend option become fields of a solve by definition', (t) => {
  const edited = withBridgeImport(bridgeMessage({ frontend: 'dockerfile.v0' }), entry)
  const { cacheImports } = BridgeSolveRequest.decode(definitionImportsOf(edited))
  t.deepEqual(
    cacheImports.map(({ type, attrs }) => ({ type, attributes: attrs })),
    [entry],
  )
})

test('a control solve keeps its own exports and imports beside ours', (t) => {
  const message = controlMessage({
    definition: { def: [Buffer.from('x')] },
    cache: { exports: [{ type: 'inline' }], imports: [{ type: 'local' }] },
  })
  const { cache } = SolveRequest.decode(withControlImport(message, entry))
  t.deepEqual(
    cache?.exports.map(({ type }) => type),
    ['inline'],
  )
  t.deepEqual(
    cache?.imports.map(({ type }) => type),
    ['local', 'registry'],
  )
})

test('a control solve turns into the bridge solve that does the same', (t) => {
  const message = controlMessage({
    ref: 'r',
    frontend: 'dockerfile.v0',
    frontendAttrs: { target: 'x' },
    cache: { imports: [{ type: 'local' }] },
    frontendInputs: { a: { def: [Buffer.from('y')] } },
  })
  const bridge = BridgeSolveRequest.decode(bridgeSolveOf(message))
  t.is(bridge.frontend, 'dockerfile.v0')
  t.deepEqual(bridge.frontendOpt, { target: 'x' })
  t.deepEqual(Object.keys(bridge.frontendInputs), ['a'])
  t.deepEqual(
    bridge.cacheImports.map(({ type }) => type),
    ['local'],
  )
  t.true(bridge.allowResultReturn && bridge.allowResultArrayRef)
})

test('only what both builds must agree on is shared with the shadow', (t) => {
  const policy = encodeField(12, 'policy')
  const message = Buffer.concat([controlMessage({ ref: 'r', entitlements: ['e'] }), policy])
  t.deepEqual(sharedSolveFields(message), Buffer.concat([encodeField(9, 'e'), policy]))
})

test('a solve goes by another reference with everything else unchanged', (t) => {
  const edited = withRef(controlMessage({ ref: 'old', session: 's' }), 'new')
  const decoded = SolveRequest.decode(edited)
  t.is(decoded.ref, 'new')
  t.is(decoded.session, 's')
  t.true(edited.includes(Buffer.from(unknown)))
})

test('the wish to ignore the cache is taken out of a definition, and nothing else', (t) => {
  const definition = Definition.fromPartial({
    def: [Buffer.from('op')],
    metadata: {
      a: { ignoreCache: true, description: { 'llb.customname': 'n' } },
      b: { description: {} },
    },
  })
  const edited = Definition.decode(withoutIgnoreCache(Definition.encode(definition).finish()))
  t.deepEqual(edited.def.map(String), ['op'])
  t.deepEqual(edited.metadata.a, OpMetadata.fromPartial({ description: { 'llb.customname': 'n' } }))
  t.deepEqual(Object.keys(edited.metadata), ['a', 'b'])
})

for (const [what, exporters, expected] of [
  ['no exporter', [], {}],
  ['an exporter that names none', [{ type: 'image', attrs: { push: 'true' } }], {}],
  [
    'the first exporter that names one',
    [
      { type: 'local' },
      { type: 'image', attrs: { compression: 'zstd', 'compression-level': '7' } },
    ],
    { compression: 'zstd', 'compression-level': '7' },
  ],
] as const) {
  test(`the image compression comes from ${what}`, (t) => {
    const request = SolveRequest.fromPartial({ exporters: exporters.map((e) => ({ ...e })) })
    t.deepEqual(imageCompressionOf(request), expected)
  })
}

test('references are found in replies and in what a client returns', (t) => {
  const reply = BridgeSolveResponse.fromPartial({
    result: { refs: { refs: { amd: { id: 'one', def: {} }, arm: { id: 'two' } } } },
  })
  t.deepEqual(
    replyRefs(BridgeSolveResponse.encode(reply).finish()).map((ref) => ref.id),
    ['one', 'two'],
  )
  for (const result of [
    { ref: { id: 'one' } },
    { refDeprecated: 'one' },
    { refsDeprecated: { refs: { x: 'one' } } },
  ]) {
    const message = ReturnRequest.encode(ReturnRequest.fromPartial({ result })).finish()
    t.deepEqual(
      returnedRefs(message).map((ref) => ref.id),
      ['one'],
    )
  }
})

test('result ids are exchanged wherever they stand, attestations included', (t) => {
  const request = ReturnRequest.fromPartial({
    result: {
      ref: { id: 'aaaaa' },
      attestations: { x: { attestation: [{ ref: { id: 'bbbbb' } }] } },
    },
  })
  const edited = withRefIds(
    ReturnRequest.encode(request).finish(),
    new Map([
      ['aaaaa', 'ccccc'],
      ['bbbbb', 'ddddd'],
      ['x', 'too long'],
    ]),
  )
  const { result } = ReturnRequest.decode(edited)
  t.is(result?.ref?.id, 'ccccc')
  t.is(result?.attestations.x?.attestation[0]?.ref?.id, 'ddddd')
})
