import test from 'ava'
import { digestOf } from '../core/digest.ts'
import { Definition, Op } from '../proto/generated/buildkit/ops.ts'
import { canonicalForm, sourceKind } from './canonical.ts'
import { graphOfJson } from './convert-json.ts'
import { describeDifference, explain } from './explain.ts'
import { graphOfDefinition } from './graph.ts'
import { contentsOfMessage, planMessage } from './message.ts'
import type { Plan, PlannedStep } from './plan.ts'
import { inputUses } from './selectors.ts'
import { keyVertices } from './step-keys.ts'

type OpFields = Parameters<typeof Op.fromPartial>[0]
const sha = (letter: string) => `sha256:${letter.repeat(64)}` as const

/** Every field that changes what an operation does, as buildx prints it and as it is on the wire. */
const pairs: { json: unknown; fields: OpFields }[] = [
  {
    json: {
      exec: {
        meta: {
          args: ['a'],
          env: ['B=c'],
          cwd: '/w',
          user: 'u',
          hostname: 'h',
          extraHosts: [{ Host: 'x', IP: '10.0.0.1' }],
          ulimit: [{ Name: 'n', Soft: '1', Hard: '2' }],
          removeMountStubsRecursive: true,
          validExitCodes: [3],
        },
        mounts: [
          { dest: '/', output: '-1' },
          { input: '-1', dest: '/t', mountType: 'TMPFS', TmpfsOpt: { size: '9' } },
          { input: '-1', dest: '/c', mountType: 'CACHE', cacheOpt: { ID: '/c' } },
          {
            dest: '/s',
            mountType: 'SECRET',
            secretOpt: { ID: 'i', uid: 1, gid: 2, mode: 384, optional: true },
          },
          { dest: '/ssh', mountType: 'SSH', SSHOpt: { ID: 'j', uid: 1, gid: 2, mode: 384 } },
          { selector: '/d', dest: '/b', readonly: true, contentCache: 'OFF', resultID: 'r' },
        ],
        network: 'HOST',
        security: 'INSECURE',
        secretenv: [{ ID: 'i', name: 'N', optional: true }],
        cdiDevices: [{ name: 'd', optional: true }],
      },
      platform: {
        Architecture: 'arm64',
        OS: 'linux',
        Variant: 'v8',
        OSVersion: '1',
        OSFeatures: ['f'],
      },
      constraints: {},
    },
    fields: {
      op: {
        $case: 'exec',
        value: {
          meta: {
            args: ['a'],
            env: ['B=c'],
            cwd: '/w',
            user: 'u',
            hostname: 'h',
            extraHosts: [{ host: 'x', ip: '10.0.0.1' }],
            ulimit: [{ name: 'n', soft: 1, hard: 2 }],
            removeMountStubsRecursive: true,
            validExitCodes: [3],
          },
          mounts: [
            { dest: '/', output: -1 },
            { input: -1, dest: '/t', mountType: 4, tmpfsOpt: { size: 9 } },
            { input: -1, dest: '/c', mountType: 3, cacheOpt: { id: '/c' } },
            {
              dest: '/s',
              mountType: 1,
              secretOpt: { id: 'i', uid: 1, gid: 2, mode: 384, optional: true },
            },
            { dest: '/ssh', mountType: 2, sshOpt: { id: 'j', uid: 1, gid: 2, mode: 384 } },
            { selector: '/d', dest: '/b', readonly: true, contentCache: 2, resultId: 'r' },
          ],
          network: 1,
          security: 1,
          secretenv: [{ id: 'i', name: 'N', optional: true }],
          cdiDevices: [{ name: 'd', optional: true }],
        },
      },
      platform: {
        architecture: 'arm64',
        os: 'linux',
        variant: 'v8',
        osVersion: '1',
        osFeatures: ['f'],
      },
    },
  },
  {
    json: {
      file: {
        actions: [
          {
            input: '-1',
            secondaryInput: '-1',
            copy: {
              src: '/a/b*',
              dest: '/c',
              owner: { user: { byID: 0 }, group: { byName: { name: 'g', input: '1' } } },
              mode: 420,
              followSymlink: true,
              dirCopyContents: true,
              attemptUnpackDockerCompatibility: true,
              createDestPath: true,
              allowWildcard: true,
              allowEmptyWildcard: true,
              timestamp: '-1',
              includePatterns: ['i'],
              excludePatterns: ['e'],
              alwaysReplaceExistingDestPaths: true,
              modeStr: 'u+x',
              requiredPaths: ['r'],
            },
          },
          {
            output: '1',
            mkfile: { path: '/f', mode: 1, data: 'aGk=', owner: { user: {} }, timestamp: '5' },
          },
          { mkdir: { path: '/d', mode: 2, makeParents: true } },
          { rm: { path: '/r', allowNotFound: true, allowWildcard: true } },
          { symlink: { oldpath: '/o', newpath: '/n' } },
        ],
      },
    },
    fields: {
      op: {
        $case: 'file',
        value: {
          actions: [
            {
              input: -1,
              secondaryInput: -1,
              action: {
                $case: 'copy',
                value: {
                  src: '/a/b*',
                  dest: '/c',
                  owner: {
                    user: { user: { $case: 'byId', value: 0 } },
                    group: { user: { $case: 'byName', value: { name: 'g', input: 1 } } },
                  },
                  mode: 420,
                  followSymlink: true,
                  dirCopyContents: true,
                  attemptUnpackDockerCompatibility: true,
                  createDestPath: true,
                  allowWildcard: true,
                  allowEmptyWildcard: true,
                  timestamp: -1,
                  includePatterns: ['i'],
                  excludePatterns: ['e'],
                  alwaysReplaceExistingDestPaths: true,
                  modeStr: 'u+x',
                  requiredPaths: ['r'],
                },
              },
            },
            {
              output: 1,
              action: {
                $case: 'mkfile',
                value: {
                  path: '/f',
                  mode: 1,
                  data: Buffer.from('hi'),
                  owner: { user: {} },
                  timestamp: 5,
                },
              },
            },
            { action: { $case: 'mkdir', value: { path: '/d', mode: 2, makeParents: true } } },
            {
              action: {
                $case: 'rm',
                value: { path: '/r', allowNotFound: true, allowWildcard: true },
              },
            },
            { action: { $case: 'symlink', value: { oldpath: '/o', newpath: '/n' } } },
          ],
        },
      },
    },
  },
  {
    json: {
      source: {
        identifier: 'git://host/x#main',
        attrs: { 'git.fullurl': 'u', 'git.keepgitdir': 'true' },
      },
    },
    fields: {
      op: {
        $case: 'source',
        value: { identifier: 'git://host/x#main', attrs: { 'git.keepgitdir': 'true' } },
      },
    },
  },
  {
    json: { merge: { inputs: [{}, { input: '1' }] } },
    fields: { op: { $case: 'merge', value: { inputs: [{}, { input: 1 }] } } },
  },
  {
    json: { diff: { lower: { input: '1' }, upper: {} } },
    fields: { op: { $case: 'diff', value: { lower: { input: 1 }, upper: {} } } },
  },
  {
    json: { passthrough: { id: 'p', outputs: ['0', '1'] } },
    fields: { op: { $case: 'passthrough', value: { id: 'p', outputs: [0, 1] } } },
  },
  {
    json: { build: { builder: '-1', inputs: { a: { input: '2' } }, attrs: { k: 'v' } } },
    fields: {
      op: {
        $case: 'build',
        value: { builder: -1, inputs: { a: { input: 2 } }, attrs: { k: 'v' } },
      },
    },
  },
]

test('every operation has one form, from JSON and from the wire', (t) => {
  for (const { json, fields } of pairs) {
    const printed = graphOfJson(
      JSON.stringify({ def: { [sha('a')]: json }, metadata: {}, source: {} }),
    )
    const wire = Buffer.from(Op.encode(Op.fromPartial(fields)).finish())
    const seen = graphOfDefinition(Definition.fromPartial({ def: [wire] }))
    const forms = [printed, seen].map(
      ({ vertices: [vertex] }) => vertex && canonicalForm(vertex.op),
    )
    t.truthy(forms[0])
    t.deepEqual(forms[0], forms[1])
    const uses = [printed, seen].map(({ vertices: [vertex] }) => vertex && inputUses(vertex.op))
    t.deepEqual(uses[0], uses[1])
  }
})

test('fields that a newer BuildKit has added are left alone', (t) => {
  const text = JSON.stringify({
    def: { [sha('a')]: { exec: { meta: { args: ['x'], news: 1 }, network: 'NEWER' }, more: {} } },
    metadata: {
      [sha('a')]: { ignore_cache: true, description: { 'llb.customname': 'n' }, caps: {} },
    },
    source: {},
    extra: true,
  })
  const [vertex] = graphOfJson(text).vertices
  t.like(vertex, { name: 'n', ignoresCache: true })
})

test('what is no plan is refused, with the place', (t) => {
  t.throws(() => graphOfJson('no'), { code: 'invalid-input' })
  t.throws(() => graphOfJson(JSON.stringify({ def: { x: { inputs: 5 } } })), {
    message: /def\.x\.inputs/,
  })
  const missing = { def: { [sha('a')]: { inputs: [{ digest: sha('b') }], merge: {} } } }
  t.throws(() => graphOfJson(JSON.stringify(missing)), { message: /lacks the operation/ })
  const circle = {
    def: {
      [sha('a')]: { inputs: [{ digest: sha('b') }], merge: {} },
      [sha('b')]: { inputs: [{ digest: sha('a') }], merge: {} },
    },
  }
  t.throws(() => graphOfJson(JSON.stringify(circle)), { message: /circle/ })
})

test('sources are pinned by digest, commit or checksum', (t) => {
  const kind = (identifier: string, attrs: Record<string, string> = {}) =>
    sourceKind({ identifier, attrs })
  t.like(kind(`docker-image://host/a:1@${sha('a')}`), { reference: 'host/a:1', digest: sha('a') })
  t.like(kind('docker-image://host/a:1'), { reference: 'host/a:1', digest: undefined })
  t.like(kind(`git://host/x#${'a'.repeat(40)}:folder`), { pinned: true })
  t.like(kind('git://host/x#main'), { pinned: false })
  t.like(kind('https://host/x', { 'http.checksum': sha('a') }), { pinned: true })
  t.like(kind('https://host/x'), { pinned: false })
  t.like(kind('local://extra'), { type: 'local', name: 'extra' })
})

test('unknown content gives no key, here and in all that stands on it', (t) => {
  const add = (def: Buffer[], fields: OpFields) => {
    const bytes = Buffer.from(Op.encode(Op.fromPartial(fields)).finish())
    def.push(bytes)
    return digestOf(bytes)
  }
  const def: Buffer[] = []
  const local = add(def, { op: { $case: 'source', value: { identifier: 'local://context' } } })
  const copy = add(def, {
    inputs: [{ digest: local }],
    op: {
      $case: 'file',
      value: {
        actions: [
          {
            input: -1,
            secondaryInput: 0,
            action: { $case: 'copy', value: { src: '/a', dest: '/a' } },
          },
        ],
      },
    },
  })
  const run = add(def, {
    inputs: [{ digest: copy }],
    op: { $case: 'exec', value: { meta: { args: ['x'] }, mounts: [{ dest: '/' }] } },
  })
  const graph = graphOfDefinition(Definition.fromPartial({ def }))
  const unknown = keyVertices(graph, new Map())
  t.is(unknown.get(copy)?.key, undefined)
  t.is(unknown.get(run)?.key, undefined)
  const [request] = unknown.get(copy)?.contents ?? []
  const keyOf = (digest: `sha256:${string}`) =>
    keyVertices(graph, new Map([[request?.id ?? '', digest]])).get(run)?.key
  t.truthy(keyOf(sha('1')))
  t.not(keyOf(sha('1')), keyOf(sha('2')))
})

function step(name: string, key: string, more: Partial<PlannedStep> = {}): PlannedStep {
  return {
    name,
    key: digestOf(key),
    source: undefined,
    platform: '',
    operationDigest: digestOf(name),
    inputs: [],
    images: [],
    cacheMounts: [],
    ignoresCache: false,
    recognizable: true,
    doubt: 'none',
    facts: [],
    ...more,
  }
}

function planOf(...steps: PlannedStep[]): Plan {
  return { platform: '', steps, partial: [], contents: {} }
}

test('a difference is told at the first step that has one, by what its key is made of', (t) => {
  const first = step('[1/3] COPY a', 'a')
  const fact = (kind: 'file' | 'variable' | 'image', name: string, value: string) => ({
    kind,
    name,
    value,
  })
  const before = planOf(
    first,
    step('[2/3] COPY . .', 'b', {
      facts: [fact('file', 'x', '1'), fact('file', 'gone', '1'), fact('image', 'i', sha('a'))],
    }),
    step('[3/3] RUN y', 'c'),
  )
  const now = planOf(
    first,
    step('[2/3] COPY . .', 'b2', {
      facts: [fact('file', 'x', '2'), fact('file', 'new', '1'), fact('image', 'i', sha('b'))],
    }),
    step('[3/3] RUN y', 'c2'),
  )
  t.deepEqual(explain(before, before), { type: 'same' })
  const found = explain(before, now)
  t.like(found, { type: 'different', step: { name: '[2/3] COPY . .' } })
  t.deepEqual(found.type === 'different' ? found.differences.map(describeDifference) : [], [
    'the base image i changed from sha256:aaaaaaaaaaaa to sha256:bbbbbbbbbbbb',
    'the file x was changed',
    'the file new was added',
    'the file gone was removed',
  ])
})

test('an instruction that was put in between is new, and what follows is not compared with it', (t) => {
  const first = step('[1/2] COPY a', 'a')
  const inputs = [digestOf('a')]
  const before = planOf(first, step('[2/2] RUN x', 'b', { inputs }))
  const inserted = step('[2/3] WORKDIR /w', 'w', { inputs })
  const now = planOf(first, inserted, step('[3/3] RUN x', 'b2', { inputs: [digestOf('w')] }))
  t.like(explain(before, now), { type: 'different', step: { name: '[2/3] WORKDIR /w' } })
})

test('a plan travels with its keys and contents, and nothing that is no digest comes out', (t) => {
  const plan: Plan = {
    ...planOf(step('[1/1] RUN x', 'a', { ignoresCache: true, doubt: 'source' })),
    contents: { one: sha('a') },
    partial: [{ type: 'unknown folder', folder: 'extra' }],
  }
  const message = planMessage(plan)
  t.like(message.steps[0], { key: digestOf('a'), runsAnyway: true, doubt: 2 })
  t.regex(message.partialReason, /extra/)
  const contents = contentsOfMessage({ ...message, contents: { ...message.contents, two: 'x' } })
  t.deepEqual([...contents], [['one', sha('a')]])
})
