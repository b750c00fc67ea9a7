import test from 'ava'
import { SolveRequest } from '../../../../proto/generated/buildkit/control.ts'
import { SolveRequest as BridgeSolveRequest } from '../../../../proto/generated/buildkit/gateway.ts'
import { Op } from '../../../../proto/generated/buildkit/ops.ts'
import { encodeField, encodeMapEntry, fieldBytes } from '../../../../proto/wire.ts'
import { bridgeSolve } from '../paths.ts'
import { narrowBridgeCall } from './bridge-requests.ts'
import type { Narrowing } from './narrowing.ts'
import { ownRegistry } from './own-registry.ts'
import { createOwners, type Owner } from './owners.ts'
import { narrowControlSolve } from './solve-requests.ts'

type Fields = Parameters<typeof SolveRequest.fromPartial>[0]

const unknown = encodeField(777, 'from a newer client')
const ours = 'hearth.cache:45123/abc/cache:record'

/** A narrowing for one of two owners; the other one has the session `theirs` and the reference `theirs`. */
function setUp(): { narrowing: Narrowing; owner: Owner } {
  const owners = createOwners()
  const other = owners.enter('other')
  other.claimSession('theirs')
  other.claimRef('theirs')
  const owner = owners.enter('owner')
  return { narrowing: { owner, registry: ownRegistry('hearth.cache:45123') }, owner }
}

function control(fields: Fields): Buffer {
  const message = SolveRequest.encode(SolveRequest.fromPartial({ ref: 'r', ...fields })).finish()
  return Buffer.concat([message, unknown])
}

function sourceWith(attrs: Record<string, string>): Buffer {
  const op = { $case: 'source', value: { identifier: 'local://context', attrs } } as const
  return Buffer.from(Op.encode(Op.fromPartial({ op })).finish())
}

/** Op: exec = 2 { meta = 1 { cgroup_parent = 10 } }. */
const groupStep = Buffer.from(encodeField(2, encodeField(1, encodeField(10, 'machine.slice'))))

test('what is not narrowed stays as it was, with a rule behind it that denies our registry', (t) => {
  const { narrowing, owner } = setUp()
  const message = control({
    session: 's',
    frontend: 'dockerfile.v0',
    frontendAttrs: { target: 'x', 'cache-imports': '' },
    cache: { imports: [{ type: 'registry', attrs: { ref: 'example.com/cache' } }] },
    exporters: [{ type: 'image', attrs: { name: 'example.com/a,example.com/b', push: 'true' } }],
  })
  const denial = encodeField(12, narrowing.registry.denial)
  t.deepEqual(narrowControlSolve(narrowing, message), Buffer.concat([message, denial]))
  t.true(owner.ownsRef('r'))
  t.true(owner.claimSession('s'))
})

test("a client's own source policy stays before ours", (t) => {
  const { narrowing } = setUp()
  const policy = encodeField(12, encodeField(2, 'their rule'))
  const narrowed = narrowControlSolve(narrowing, Buffer.concat([control({}), policy]))
  const rules = fieldBytes(narrowed, 12).flatMap((part) => fieldBytes(part, 2))
  t.is(rules.length, 2)
  t.is(String(rules[0]), 'their rule')
})

test('the wish for a control group is dropped', (t) => {
  const { narrowing } = setUp()
  const options = { 'cgroup-parent': 'machine.slice', target: 'x' }
  const narrowed = SolveRequest.decode(
    narrowControlSolve(narrowing, control({ frontendAttrs: options })),
  )
  t.deepEqual(narrowed.frontendAttrs, { target: 'x' })
  const bridge = BridgeSolveRequest.encode(BridgeSolveRequest.fromPartial({ frontendOpt: options }))
  const bridged = narrowBridgeCall(narrowing, bridgeSolve, Buffer.from(bridge.finish()))
  t.deepEqual(BridgeSolveRequest.decode(bridged).frontendOpt, { target: 'x' })
})

test('cache imports go on as they were understood, whatever else their text holds', (t) => {
  const { narrowing } = setUp()
  // Go would take "attrs" for Attrs, and merge the two.
  const text = '[{"Type":"registry","Attrs":{"ref":"example.com/c"},"attrs":{"insecure":"true"}}]'
  const narrowed = narrowControlSolve(
    narrowing,
    control({ frontendAttrs: { 'cache-imports': text } }),
  )
  t.deepEqual(JSON.parse(SolveRequest.decode(narrowed).frontendAttrs['cache-imports'] ?? ''), [
    { Type: 'registry', Attrs: { ref: 'example.com/c' } },
  ])
})

const refused = {
  'an entitlement': control({ entitlements: ['network.host'] }),
  'a device': control({ entitlements: ['device=vendor.com/device'] }),
  'the session of another build': control({ session: 'theirs' }),
  'the session of another build under a prefix': control({ session: 'name:theirs' }),
  'the session of another build for its policy': Buffer.concat([
    control({}),
    encodeField(15, 'theirs'),
  ]),
  'a source from the session of another build': control({
    definition: { def: [sourceWith({ 'local.session': 'context:theirs' })] },
  }),
  'an input from the session of another build': control({
    frontendInputs: { context: { def: [sourceWith({ 'oci.session': 'theirs' })] } },
  }),
  'a context from the session of another build': control({
    frontendAttrs: { 'local-sessionid:context': 'theirs' },
  }),
  'a control group': control({ definition: { def: [groupStep] } }),
  'our registry to export to': control({
    cache: { exports: [{ type: 'registry', attrs: { ref: ours } }] },
  }),
  'our registry to import from': control({
    cache: { imports: [{ type: 'registry', attrs: { ref: ours } }] },
  }),
  'our registry to export to, in the old way': Buffer.concat([
    control({}),
    encodeField(8, encodeField(1, ours)),
  ]),
  'our registry to import from, in the old way': Buffer.concat([
    control({}),
    encodeField(8, encodeField(2, ours)),
  ]),
  'our registry for a frontend to import from': control({
    frontendAttrs: {
      'cache-imports': JSON.stringify([{ Type: 'registry', Attrs: { ref: ours } }]),
    },
  }),
  'our registry for a frontend to import from, in the old way': control({
    frontendAttrs: { 'cache-from': `example.com/x,${ours}` },
  }),
  'our registry to push to': control({
    exporters: [{ type: 'image', attrs: { name: `example.com/x,${ours}` } }],
  }),
  'our registry as an S3 server': control({
    cache: { exports: [{ type: 's3', attrs: { endpoint_url: 'http://hearth.cache:45123' } }] },
  }),
}
for (const [what, message] of Object.entries(refused)) {
  test(`a solve that names ${what} is refused`, (t) => {
    const { narrowing, owner } = setUp()
    t.throws(() => narrowControlSolve(narrowing, message), {
      code: 'forbidden',
      message: /entitlement|session|control group|registry/,
    })
    t.false(owner.ownsRef('r'))
  })
}

test('the reference of another build is refused, and so is none', (t) => {
  const { narrowing } = setUp()
  t.throws(() => narrowControlSolve(narrowing, control({ ref: 'theirs' })), {
    code: 'already-exists',
  })
  for (const ref of ['', 'x'.repeat(129)]) {
    t.throws(() => narrowControlSolve(narrowing, control({ ref })), { code: 'invalid-input' })
  }
})

for (const text of ['{', '"x"', '[{"type":"registry"}]', '[{"Type":1}]']) {
  test(`cache imports that cannot be read are refused: ${text}`, (t) => {
    const { narrowing } = setUp()
    t.throws(
      () => narrowControlSolve(narrowing, control({ frontendAttrs: { 'cache-imports': text } })),
      { code: 'invalid-input' },
    )
  })
}

const resolveImageConfig = '/moby.buildkit.v1.frontend.LLBBridge/ResolveImageConfig'
const resolveSourceMeta = '/moby.buildkit.v1.frontend.LLBBridge/ResolveSourceMeta'

for (const [what, path, message] of [
  ['an operation with a control group', bridgeSolve, encodeField(1, encodeField(1, groupStep))],
  ['an import from our registry', bridgeSolve, encodeField(12, encodeMapEntry(2, 'ref', ours))],
  ['the session of another build', resolveImageConfig, encodeField(6, 'theirs')],
  [
    'the session of another build',
    resolveSourceMeta,
    encodeField(1, encodeMapEntry(2, 'oci.session', 'theirs')),
  ],
] as const) {
  test(`a call of ${path.split('/').at(-1)} that names ${what} is refused`, (t) => {
    const { narrowing } = setUp()
    t.throws(() => narrowBridgeCall(narrowing, path, Buffer.from(message)), { code: 'forbidden' })
  })
}

const newContainer = '/moby.buildkit.v1.frontend.LLBBridge/NewContainer'

test('the id of a container names no folder elsewhere', (t) => {
  const { narrowing } = setUp()
  const named = (id: string): Buffer => Buffer.concat([encodeField(1, id), unknown])
  const fair = named('k3jx7h2q')
  t.is(narrowBridgeCall(narrowing, newContainer, fair), fair)
  for (const id of ['', '..', '../../x', 'a/b', '.hidden', 'a\n']) {
    t.throws(() => narrowBridgeCall(narrowing, newContainer, named(id)), { code: 'invalid-input' })
  }
})
