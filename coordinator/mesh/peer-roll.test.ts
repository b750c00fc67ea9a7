import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { HearthError } from '../../core/errors.ts'
import type { NodeRecord } from '../state/index.ts'
import { openState } from '../state/index.ts'
import { createPeerRoll } from './peer-roll.ts'

const hourMs = 60 * 60_000

async function openRoll(t: ExecutionContext) {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'hearth-roll-'))
  let nowMs = 1_000 * hourMs
  const open = () =>
    openState({ folder, history: { buildsMax: 10, ageMs: hourMs, solvesPerBuildMax: 10 } })
  let state = open()
  t.teardown(async () => {
    await state[Symbol.asyncDispose]()
    await rm(folder, { recursive: true, force: true })
  })
  const roll = () => createPeerRoll({ state }, { now: () => nowMs })
  return {
    roll,
    /** As the directory of nodes notes what has joined. */
    join(nodeId: string, peerId: string, withToken = true) {
      roll().assign({ nodeId, peerId, withToken })
      state.nodes.put(nodeId, { ...nodeRecord(nodeId), peerId })
    },
    peerOf: (nodeId: string) => state.nodes.get(nodeId)?.peerId,
    expelled: () => roll().expelledSince(28 * hourMs),
    pass(ms: number) {
      nowMs += ms
    },
    async restart() {
      await state[Symbol.asyncDispose]()
      state = open()
    },
  }
}

function nodeRecord(id: string): NodeRecord {
  return {
    ...{ id, name: id, platform: 'linux/amd64', buildAddress: '', controlAddress: '' },
    ...{ version: '', publicKeyHash: '', joinedAtMs: 0, lastSeenAtMs: 0 },
  }
}

const isForbidden = { instanceOf: HearthError, code: 'forbidden' }

test('a peer is one node’s, and only an operator’s token makes it another’s', async (t) => {
  const { roll, join, peerOf } = await openRoll(t)
  join('one', 'peer-a')
  t.throws(() => join('two', 'peer-a', false), isForbidden)
  t.is(peerOf('one'), 'peer-a')
  join('two', 'peer-a')
  t.is(peerOf('one'), undefined)
  t.notThrows(() => roll().assign({ nodeId: 'two', peerId: 'peer-a', withToken: false }))
})

test('a node that comes with another peer gives up the one of before', async (t) => {
  const { join, expelled, restart } = await openRoll(t)
  join('one', 'peer-a')
  join('one', 'peer-b', false)
  t.deepEqual(expelled(), ['peer-a'])
  await restart()
  t.deepEqual(expelled(), ['peer-a'])
  // Its folder was put back to an earlier day.
  join('one', 'peer-a', false)
  t.deepEqual(expelled(), ['peer-b'])
  t.throws(() => join('two', 'peer-b', false), isForbidden)
})

test('a removed node stays out until all that it has to show has expired, or a token lets it in', async (t) => {
  const { roll, join, expelled, restart, pass } = await openRoll(t)
  join('one', 'peer-a')
  t.is(roll().remove('one').peerId, 'peer-a')
  t.throws(() => roll().remove('one'), { instanceOf: HearthError, code: 'not-found' })
  await restart()
  t.deepEqual(expelled(), ['peer-a'])
  t.throws(() => roll().requireNotRemoved('one'), isForbidden)
  // Its membership is over, its certificate is not.
  pass(48 * hourMs)
  t.deepEqual(expelled(), [])
  t.throws(() => roll().requireNotRemoved('one'), isForbidden)
  join('two', 'peer-b')
  t.throws(() => roll().requireNotRemoved('one'), isForbidden)
  pass(7 * 24 * hourMs)
  join('three', 'peer-c')
  t.notThrows(() => roll().requireNotRemoved('one'))

  roll().remove('two')
  join('four', 'peer-b')
  t.deepEqual(expelled(), [])
  t.throws(() => roll().requireNotRemoved('two'), isForbidden)
})
