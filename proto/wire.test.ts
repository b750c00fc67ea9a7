import test from 'ava'
import fc from 'fast-check'
import { HearthError } from '../core/errors.ts'
import { SolveRequest } from './generated/buildkit/control.ts'
import {
  createFrameReader,
  editFields,
  encodeField,
  encodeMapEntry,
  fieldText,
  frameMessage,
  wireFields,
} from './wire.ts'

const solveRequest = fc
  .record({
    ref: fc.string(),
    session: fc.string(),
    frontendAttrs: fc.dictionary(fc.string(), fc.string()),
    internal: fc.boolean(),
  })
  .map((fields) => Buffer.from(SolveRequest.encode(SolveRequest.fromPartial(fields)).finish()))

test('a message is the sum of its fields', (t) => {
  fc.assert(
    fc.property(solveRequest, (message) => {
      t.deepEqual(Buffer.concat([...wireFields(message)].map((field) => field.raw)), message)
      t.deepEqual(
        editFields(message, (field) => field.raw),
        message,
      )
    }),
  )
})

test('a field that nobody knows survives an edit', (t) => {
  fc.assert(
    fc.property(
      solveRequest,
      fc.uint8Array(),
      fc.integer({ min: 500, max: 90_000 }),
      (message, bytes, number) => {
        const unknown = encodeField(number, bytes)
        const edited = editFields(Buffer.concat([unknown, message]), (field) =>
          field.number === 1 ? encodeField(1, 'other') : field.raw,
        )
        t.true(edited.includes(Buffer.from(unknown)))
      },
    ),
  )
})

test('a map entry that is added behind replaces the one before it', (t) => {
  const message = Buffer.concat([encodeMapEntry(7, 'a', '1'), encodeMapEntry(7, 'a', '2')])
  t.deepEqual(SolveRequest.decode(message).frontendAttrs, { a: '2' })
})

test('the last occurrence of a string counts, and an absent one is empty', (t) => {
  const message = Buffer.concat([encodeField(1, 'x'), encodeField(1, 'y')])
  t.is(fieldText(message, 1), 'y')
  t.is(fieldText(message, 2), '')
})

for (const [what, bytes] of [
  ['a length beyond the end', [0x0a, 0x7f, 0x00]],
  ['a tag without a value', [0x08]],
  ['field number zero', [0x02, 0x00]],
] as const) {
  test(`${what} is refused as a message`, (t) => {
    const error = t.throws(() => [...wireFields(Buffer.from(bytes))], { instanceOf: HearthError })
    t.is(error?.code, 'invalid-input')
  })
}

test('frames come out as they went in, however the stream is cut', (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 8 }),
      fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }),
      (messages, cuts) => {
        const stream = Buffer.concat(messages.map((message) => frameMessage(message)))
        const read = createFrameReader(1_000)
        const seen: Buffer[] = []
        for (let at = 0, turn = 0; at < stream.length; turn++) {
          const next = at + (cuts[turn % cuts.length] ?? 1)
          seen.push(...read(stream.subarray(at, next)).map((frame) => frame.message))
          at = next
        }
        t.deepEqual(
          seen,
          messages.map((message) => Buffer.from(message)),
        )
      },
    ),
  )
})

test('a message that is announced as too large is refused before it arrives', (t) => {
  const read = createFrameReader(10)
  t.throws(() => read(frameMessage(Buffer.alloc(11)).subarray(0, 5)), { instanceOf: HearthError })
})
