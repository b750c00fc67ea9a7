import path from 'node:path'
import test from 'ava'
import { nativePlatform } from '../../node/native-platform.ts'
import { makeHome, runHearth, startHearthCommand } from '../command-fixture.ts'

test.serial(
  'a node joins a coordinator with its token once, and needs no flags the next time',
  async (t) => {
    const home = await makeHome(t)
    const coordinator = startHearthCommand(t, home, [
      ...['coordinator', '--listen', '127.0.0.1:0', '--json'],
    ])
    const ready = JSON.parse(await coordinator.prints(/\}\n$/))

    const data = path.join(home.folder, 'node')
    const common = ['--data', data, '--listen', '127.0.0.1:0', '--slots', '3', '--json']
    const join = ['--join', ready.address, '--ca', ready.caFile]
    const env = { HEARTH_JOIN_TOKEN: ready.joinToken }
    const first = startHearthCommand(t, home, ['node', ...join, ...common], { env })
    const { nodeId } = JSON.parse(await first.prints(/\}\n$/))
    const list = async () =>
      JSON.parse((await runHearth(t, home, ['nodes', '--json'])).stdout).nodes
    t.like(await list(), [{ id: nodeId, online: true, load: { slots: 3 } }])
    first.kill('SIGTERM')
    t.is((await first.ended).code, 0)

    const again = startHearthCommand(t, home, ['node', ...common])
    t.is(JSON.parse(await again.prints(/\}\n$/)).nodeId, nodeId)
    t.is((await list()).length, 1)
    again.kill('SIGINT')
    t.is((await again.ended).code, 0)

    // A further node needs a token of its own, and is out when it is removed.
    const token = (await runHearth(t, home, ['tokens', 'create', '--join'])).stdout.trim()
    const further = path.join(home.folder, 'further')
    const second = startHearthCommand(
      t,
      home,
      [
        'node',
        ...join,
        '--data',
        further,
        '--listen',
        '127.0.0.1:0',
        '--name',
        'further',
        '--json',
      ],
      { env: { HEARTH_JOIN_TOKEN: token } },
    )
    const { nodeId: secondId } = JSON.parse(await second.prints(/\}\n$/))
    const named = (await list()).find(({ id }: { id: string }) => id === secondId)
    t.like(named, { name: 'further', platform: nativePlatform() })
    t.regex(named.peerId, /^12D3KooW/)
    t.regex(
      (await runHearth(t, home, ['nodes'])).stdout,
      /^\S+ +further +linux\/\S+ +online +(in|away) +/m,
    )
    t.is((await runHearth(t, home, ['nodes', 'remove', secondId])).code, 0)
    t.is((await runHearth(t, home, ['nodes', 'remove', secondId])).code, 6)
    await second.says(/was removed by an operator/)
    t.deepEqual(
      (await list()).map(({ id }: { id: string }) => id),
      [nodeId],
    )
    second.kill('SIGTERM')
    t.is((await second.ended).code, 0)

    const stranger = ['--data', path.join(home.folder, 'other'), '--listen', '127.0.0.1:0']
    const refused = await runHearth(t, home, ['node', ...join, '--token', 'hth_no_no', ...stranger])
    t.is(refused.code, 5)
    t.regex(refused.stderr, /^hearth: .*\n {2}\S/m)
    coordinator.kill('SIGTERM')
    t.is((await coordinator.ended).code, 0)
  },
)
