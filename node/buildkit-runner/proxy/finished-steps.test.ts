import test from 'ava'
import { digestOf } from '../../../core/digest.ts'
import { Definition, Op } from '../../../proto/generated/buildkit/ops.ts'
import { finishedResults } from './finished-steps.ts'

/**
 * Operations by name, from what each is built on as "name" or "name:output"; the last one is the result. The
 * architecture makes operations without inputs differ.
 */
function graph(operations: Readonly<Record<string, readonly string[]>>) {
  const digests = new Map<string, string>()
  const def: Buffer[] = []
  for (const [name, inputs] of Object.entries(operations)) {
    const op = Op.encode(
      Op.fromPartial({
        inputs: inputs.map((input) => {
          const [of = '', index = '0'] = input.split(':')
          return { digest: digests.get(of) ?? '', index: Number(index) }
        }),
        ...(name === 'result' ? {} : { platform: { os: 'linux', architecture: name } }),
      }),
    ).finish()
    digests.set(name, digestOf(op))
    def.push(Buffer.from(op))
  }
  const metadata = Object.fromEntries(
    [...digests.values()].map((digest) => [digest, { ignoreCache: true }]),
  )
  return {
    encoded: Definition.encode(Definition.fromPartial({ def, metadata })).finish(),
    digest: (name: string) => digests.get(name) ?? '',
    finished: (...names: string[]) => new Set(names.map((name) => digests.get(name) ?? '')),
  }
}

function architectures(definition: Uint8Array | undefined): (string | undefined)[] {
  return Definition.decode(definition ?? new Uint8Array()).def.map(
    (bytes) => Op.decode(bytes).platform?.architecture,
  )
}

const chain = graph({ base: [], one: ['base'], two: ['one'], three: ['two'], result: ['three'] })

test('a chain is cut behind the last step that finished', (t) => {
  const results = finishedResults([chain.encoded], chain.finished('base', 'one', 'two'))
  t.deepEqual(
    results.map(({ id }) => id),
    [`${chain.digest('two')}:0`],
  )
  t.deepEqual(architectures(results[0]?.definition), ['base', 'one', 'two', undefined])
  const { metadata } = Definition.decode(results[0]?.definition ?? new Uint8Array())
  t.deepEqual(Object.keys(metadata).sort(), ['base', 'one', 'two'].map(chain.digest).sort())
  t.false(Object.values(metadata).some(({ ignoreCache }) => ignoreCache))
})

test('sources alone, and nothing at all, are not worth it', (t) => {
  t.deepEqual(finishedResults([chain.encoded], chain.finished('base')), [])
  t.deepEqual(finishedResults([chain.encoded], new Set()), [])
  t.deepEqual(finishedResults([], chain.finished('one')), [])
})

test('stages side by side end each by themselves, and every used output of a step counts', (t) => {
  const stages = graph({
    base: [],
    left: ['base'],
    right: ['base'],
    broken: ['left', 'right:0', 'right:2'],
    result: ['broken'],
  })
  const finished = stages.finished('base', 'left', 'right')
  const results = finishedResults([stages.encoded, stages.encoded], finished)
  t.deepEqual(
    results.map(({ id }) => id),
    [`${stages.digest('left')}:0`, `${stages.digest('right')}:0`, `${stages.digest('right')}:2`],
  )
  t.deepEqual(architectures(results[0]?.definition), ['base', 'left', undefined])
})
