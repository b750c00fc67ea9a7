import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import { silentLogger } from '../../../core/log.ts'
import { chooseResolver } from '../../../core/name-servers.ts'
import type { NetworkPolicy } from './firewall.ts'
import { createNetworkPolicies } from './network-policies.ts'
import { temporaryFolder } from './pool-fixture.ts'

/** A machine whose resolver file can be changed, and one running daemon. */
async function start(t: ExecutionContext, options: { deny?: string[]; reach?: number[] } = {}) {
  const machine = { resolvConf: 'nameserver 192.0.2.1\n' }
  const policies = await createNetworkPolicies(
    { log: silentLogger, resolver: async () => chooseResolver(machine.resolvConf, undefined) },
    { deny: options.deny ?? [], reach: options.reach ?? [] },
  )
  const applied: NetworkPolicy[] = []
  const resolverFile = path.join(await temporaryFolder(t), 'resolv.conf')
  await writeFile(resolverFile, machine.resolvConf)
  let held: Promise<void> | undefined
  const link = {
    async apply(policy: NetworkPolicy) {
      await held
      applied.push(policy)
    },
  }
  /** Changes of the link wait until the returned function is called. */
  const hold = (): (() => void) => {
    const { promise, resolve } = Promise.withResolvers<void>()
    held = promise
    return resolve
  }
  return {
    machine,
    policies,
    applied,
    resolverFile,
    hold,
    follow: () => policies.follow(link, resolverFile),
  }
}

test('running daemons follow the machine to other name servers', async (t) => {
  const { machine, policies, applied, resolverFile, follow } = await start(t)
  await using _daemon = follow()
  await policies.refresh()
  t.is(applied.length, 0)
  machine.resolvConf = 'nameserver 192.0.2.2\n'
  await policies.refresh()
  t.deepEqual(applied.at(-1)?.nameServers, ['192.0.2.2'])
  t.is(await readFile(resolverFile, 'utf8'), 'nameserver 192.0.2.2\n')
  t.deepEqual((await policies.current()).policy.nameServers, ['192.0.2.2'])
})

test('what is denied and reached is replaced in daemons that run, and in no others', async (t) => {
  const { policies, applied, follow } = await start(t, { deny: ['192.0.2.7'], reach: [5000] })
  {
    await using _daemon = follow()
    await policies.deny(['192.0.2.8:80'])
    const denied = applied.at(-1)?.denied ?? []
    t.true(denied.some((each) => each.type === 'port' && each.address === '192.0.2.8'))
    t.false(denied.some((each) => each.type === 'range' && each.range === '192.0.2.7'))
    t.true(denied.some((each) => each.type === 'range' && each.range === '169.254.0.0/16'))
    t.deepEqual(applied.at(-1)?.reach, [5000])
    await policies.reach([])
    t.deepEqual(applied.at(-1)?.reach, [])
  }
  await policies.deny([])
  t.is(applied.length, 2)
})

test('a daemon that is no longer followed is not touched any more', async (t) => {
  const { policies, follow, hold, applied } = await start(t)
  const release = hold()
  const daemon = follow()
  const denying = policies.deny(['192.0.2.7'])
  await new Promise(setImmediate)
  let gone = false
  const leaving = Promise.resolve(daemon[Symbol.asyncDispose]()).then(() => {
    gone = true
  })
  await new Promise(setImmediate)
  t.false(gone, 'its link is still being changed')
  release()
  await Promise.all([denying, leaving])
  t.is(applied.length, 1)
})

test('what is no destination is refused, and what was denied stays so', async (t) => {
  const { policies, applied, follow } = await start(t, { deny: ['192.0.2.7'] })
  await using _daemon = follow()
  await t.throwsAsync(policies.deny(['nonsense']), { message: /no IPv4 range/ })
  t.is(applied.length, 0)
  t.is((await policies.current()).policy.denied.at(-1)?.type, 'range')
})
