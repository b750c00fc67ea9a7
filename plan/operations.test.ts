import test from 'ava'
import { digestOf } from '../core/digest.ts'
import { Definition, MountType, Op } from '../proto/generated/buildkit/ops.ts'
import { readOperations } from './operations.ts'

type OpFields = Parameters<typeof Op.fromPartial>[0]

/** A definition as a frontend would write it: context, COPY, RUN, and the entry that names the result. */
function definitionOf(session: string, run: { args: string[]; ignoreCache?: boolean }): Definition {
  const def: Buffer[] = []
  const add = (fields: OpFields): string => {
    const bytes = Buffer.from(Op.encode(Op.fromPartial(fields)).finish())
    def.push(bytes)
    return digestOf(bytes)
  }
  const platform = { os: 'linux', architecture: 'arm64', variant: 'v8' }
  const context = add({
    op: {
      $case: 'source',
      value: {
        identifier: 'local://context',
        attrs: { 'local.session': session, 'local.unique': session },
      },
    },
  })
  const copy = add({
    inputs: [{ digest: context, index: 0 }],
    op: { $case: 'file', value: {} },
    platform,
  })
  const exec = add({
    inputs: [{ digest: copy, index: 0 }],
    op: {
      $case: 'exec',
      value: {
        meta: { args: run.args },
        mounts: [
          { dest: '/', mountType: MountType.BIND },
          { dest: '/cache', mountType: MountType.CACHE, cacheOpt: { id: 'go-build' } },
        ],
      },
    },
    platform,
  })
  add({ inputs: [{ digest: exec, index: 0 }] })
  return Definition.fromPartial({
    def,
    metadata: {
      [copy]: { description: { 'llb.customname': '[1/2] COPY . .' } },
      [exec]: {
        description: { 'llb.customname': '[2/2] RUN x' },
        ignoreCache: run.ignoreCache ?? false,
      },
    },
    source: {
      infos: [{ filename: 'Dockerfile' }],
      locations: {
        [exec]: {
          locations: [{ sourceIndex: 0, ranges: [{ start: { line: 3 }, end: { line: 5 } }] }],
        },
      },
    },
  })
}

test('operations tell what they are, where they stand and what they mount', (t) => {
  const [context, copy, run, ...rest] = readOperations(definitionOf('s', { args: ['x'] }))
  t.deepEqual(rest, [])
  t.is(context?.kind, 'source')
  t.false(context?.isStep)
  t.like(copy, { kind: 'file', isStep: true, name: '[1/2] COPY . .', platform: 'linux/arm64/v8' })
  t.like(run, {
    kind: 'run',
    isStep: true,
    source: { file: 'Dockerfile', firstLine: 3, lastLine: 5 },
    cacheMounts: ['go-build'],
    ignoresCache: false,
  })
})

test('an operation has the same digest in every session, though BuildKit names it anew', (t) => {
  const one = readOperations(definitionOf('one', { args: ['x'] }))
  const two = readOperations(definitionOf('two', { args: ['x'] }))
  t.deepEqual(
    one.map(({ operationDigest }) => operationDigest),
    two.map(({ operationDigest }) => operationDigest),
  )
  t.notDeepEqual(
    one.map(({ vertexDigest }) => vertexDigest),
    two.map(({ vertexDigest }) => vertexDigest),
  )
})

test('another command changes the digest of its operation and of no other', (t) => {
  const one = readOperations(definitionOf('s', { args: ['x'] }))
  const two = readOperations(definitionOf('s', { args: ['y'] }))
  t.deepEqual(
    one.map(({ operationDigest }, index) => operationDigest === two[index]?.operationDigest),
    [true, true, false],
  )
})

test('a wish to ignore the cache is seen and changes no digest', (t) => {
  const [, , plain] = readOperations(definitionOf('s', { args: ['x'] }))
  const [, , wished] = readOperations(definitionOf('s', { args: ['x'], ignoreCache: true }))
  t.true(wished?.ignoresCache)
  t.is(wished?.operationDigest, plain?.operationDigest)
})

test('operations of the frontend itself are no steps', (t) => {
  const definition = definitionOf('s', { args: ['x'] })
  for (const metadata of Object.values(definition.metadata)) {
    metadata.description['llb.customname'] = '[internal] settings'
  }
  t.true(readOperations(definition).every((operation) => !operation.isStep))
})
