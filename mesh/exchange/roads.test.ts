import test from 'ava'
import { createRoads } from './roads.ts'
import { SourceFailure } from './source-connection.ts'

const signal = new AbortController().signal
const peer = { nodeId: 'n', peerId: 'p' }

function roads(options: { hasStreams?: boolean } = {}) {
  const state = { nowMs: 0, isDirectOpen: false, isStreamOpen: true, tried: [] as string[] }
  const way = (name: string, isOpen: () => boolean) => async () => {
    state.tried.push(name)
    if (!isOpen()) throw new SourceFailure('unreachable', `no ${name}`)
    return name
  }
  const made = createRoads<{ nodeId: string; peerId?: string }, string>(
    {
      direct: way('direct', () => state.isDirectOpen),
      byStream: options.hasStreams === false ? undefined : way('stream', () => state.isStreamOpen),
    },
    { clock: () => state.nowMs },
  )
  return {
    state,
    connect: (to: typeof peer | { nodeId: string } = peer) => made.connect(to, { signal }),
  }
}

test('a closed direct road is left alone for a while, twice as long each time', async (t) => {
  const { state, connect } = roads()
  t.is(await connect(), 'stream')
  t.deepEqual(state.tried, ['direct', 'stream'])
  state.nowMs = 29_000
  await connect()
  t.deepEqual(state.tried.slice(2), ['stream'])
  state.nowMs = 31_000
  await connect()
  t.deepEqual(state.tried.slice(3), ['direct', 'stream'])
  state.nowMs = 90_000
  await connect()
  t.deepEqual(state.tried.slice(5), ['stream'])
  state.nowMs = 92_000
  state.isDirectOpen = true
  t.is(await connect(), 'direct')
})

test('when the streams end too, the direct road is tried again at once', async (t) => {
  const { state, connect } = roads()
  await connect()
  state.isStreamOpen = false
  state.isDirectOpen = true
  t.is(await connect(), 'direct')
})

test('a peer that no road leads to says what is wrong with both', async (t) => {
  const { state, connect } = roads()
  state.isStreamOpen = false
  await t.throwsAsync(connect(), { message: 'no direct; by stream: no stream' })
  state.isDirectOpen = true
  t.is(await connect(), 'direct')
})

test('without a mesh, or without a name in it, there is the direct road alone', async (t) => {
  const alone = roads({ hasStreams: false })
  await t.throwsAsync(alone.connect(), { message: 'no direct' })
  const { state, connect } = roads()
  await t.throwsAsync(connect({ nodeId: 'n' }), { message: 'no direct' })
  t.deepEqual(state.tried, ['direct'])
})
