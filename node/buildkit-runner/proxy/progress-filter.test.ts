import test from 'ava'
import { StatusResponse } from '../../../proto/generated/buildkit/control.ts'
import { encodeField, frameMessage } from '../../../proto/wire.ts'
import { createProgressFilter } from './progress-filter.ts'

const isOurs = (name: string): boolean => name.includes('hearth.cache')

function frameOf(response: Parameters<typeof StatusResponse.fromPartial>[0]) {
  const message = Buffer.from(StatusResponse.encode(StatusResponse.fromPartial(response)).finish())
  return { compressed: false, message }
}

function read(frame: Buffer | undefined): StatusResponse | undefined {
  return frame === undefined ? undefined : StatusResponse.decode(frame.subarray(5))
}

test('our vertex goes, with all that is said of it later', (t) => {
  const filter = createProgressFilter(isOurs)
  const first = read(
    filter(
      frameOf({
        vertexes: [
          { digest: 'a', name: 'importing cache manifest from hearth.cache:5000/x' },
          { digest: 'b', name: 'RUN x' },
        ],
      }),
    ),
  )
  t.deepEqual(
    first?.vertexes.map(({ digest }) => digest),
    ['b'],
  )
  const second = read(
    filter(
      frameOf({
        vertexes: [{ digest: 'a', name: '' }],
        statuses: [{ vertex: 'a' }, { vertex: 'b' }],
        logs: [{ vertex: 'a' }, { vertex: 'b' }],
        warnings: [{ vertex: 'a' }],
      }),
    ),
  )
  t.deepEqual(second?.vertexes, [])
  t.deepEqual(
    second?.statuses.map(({ vertex }) => vertex),
    ['b'],
  )
  t.deepEqual(
    second?.logs.map(({ vertex }) => vertex),
    ['b'],
  )
  t.deepEqual(second?.warnings, [])
  t.is(filter(frameOf({ statuses: [{ vertex: 'a' }] })), undefined)
})

test('progress that holds nothing of ours passes byte for byte', (t) => {
  const filter = createProgressFilter(isOurs)
  const { message } = frameOf({ vertexes: [{ digest: 'b', name: 'RUN x' }] })
  const extended = Buffer.concat([message, encodeField(99, 'new')])
  t.deepEqual(filter({ compressed: false, message: extended }), frameMessage(extended))
})

test('a compressed frame passes with its flag', (t) => {
  const passed = createProgressFilter(isOurs)({ compressed: true, message: Buffer.from('zip') })
  t.is(passed?.readUInt8(0), 1)
})
