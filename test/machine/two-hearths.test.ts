import { existsSync } from 'node:fs'
import path from 'node:path'
import test from 'ava'
import { claimsOf, type Hearth, startHearth } from '../harness/index.ts'
import { createContext, writeContext } from '../proxy/context.ts'
import { createOrphanWatch } from '../soak/orphan-watch.ts'

/** A build whose steps take long enough for something to happen meanwhile, and which uses the network's ends. */
const dockerfile = 'COPY source /source\nRUN sleep 3; cat /source > /made; ip address > /addresses'

async function claimOf(hearth: Hearth) {
  const [claims, ...more] = await claimsOf(hearth.dataFolder)
  if (claims === undefined || more.length > 0) throw new Error('one Hearth, one record of claims')
  return claims
}

test('two Hearths on one machine do not meet, and the death of one does not disturb the other', async (t) => {
  await using one = await startHearth()
  await using two = await startHearth()
  const watch = createOrphanWatch(one.dataFolder)
  await using context = await createContext(dockerfile, { source: 'first' })
  // The same project: nothing but the data folder tells them apart.
  const args = ['--project', 'twin', context.path]

  const built = await Promise.all([one.build(args), two.build(args)])
  for (const { exitCode, stderr } of built) t.is(exitCode, 0, stderr)
  const claims = await Promise.all([claimOf(one), claimOf(two)])
  const names = claims.map(({ daemons }) => daemons.flatMap((daemon) => daemon.names))
  t.true(names.every((list) => list.length >= 2))
  t.deepEqual(
    names[0]?.filter((name) => names[1]?.includes(name)),
    [],
  )
  await watch.look()

  await writeContext(context.path, { source: 'second' })
  const [ours, theirs] = [two.build(args), one.build(args)]
  await one.kill()
  t.not((await theirs).exitCode, 0)
  // While the other builds, what the dead one has left is swept.
  await one.start()
  t.deepEqual(await watch.afterRestart(one.pid()), [])
  const undisturbed = await ours
  t.is(undisturbed.exitCode, 0, undisturbed.stderr)

  const after = await claimOf(two)
  t.deepEqual(after, claims[1])
  for (const { bridge } of after.daemons) t.true(existsSync(path.join('/sys/class/net', bridge)))
  await writeContext(context.path, { source: 'third' })
  for (const { exitCode, stderr } of await Promise.all([one.build(args), two.build(args)])) {
    t.is(exitCode, 0, stderr)
  }
})
