import test from 'ava'
import { HearthError } from '../../../core/errors.ts'
import { temporaryFolder } from './pool-fixture.ts'
import { findDaemonPrograms } from './programs.ts'

test('a machine that can build has everything', async (t) => {
  const programs = await findDaemonPrograms()
  t.regex(programs.buildkitd, /buildkitd$/)
  t.regex(programs.runc, /runc$/)
  t.regex(programs.cniFolder, /cni/)
})

for (const [what, named, env, hint] of [
  ['buildkitd', {}, { HEARTH_BUILDKITD: '/nowhere' }, /HEARTH_BUILDKITD/],
  ['runc', {}, { HEARTH_RUNC: '/nowhere' }, /apt-get install runc/],
  ['/nowhere/hook', { runc: '/nowhere/hook' }, {}, /executable/],
] as const) {
  test(`without ${what} there is a hint what to do`, async (t) => {
    const error = await t.throwsAsync(findDaemonPrograms(named, { ...process.env, ...env }), {
      instanceOf: HearthError,
    })
    t.is(error?.code, 'environment')
    t.true(error?.message.includes(what))
    t.regex(error?.hint ?? '', hint)
  })
}

test('without CNI plugins there is a hint what to install', async (t) => {
  const cniFolder = await temporaryFolder(t)
  const error = await t.throwsAsync(findDaemonPrograms({ cniFolder }), { instanceOf: HearthError })
  t.regex(error?.hint ?? '', /containernetworking-plugins/)
})
