/** `hearth exec` while the coordinator is away: on the last known node, else on this machine's own builder. */
import { readFile, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { saveStandby } from '../../cli/build/standby.ts'
import { openAuthority } from '../../coordinator/access/index.ts'
import { findProgram } from '../../core/programs.ts'
import { createBuildxClient } from '../harness/buildx.ts'
import { createTemporaryFolder, freePort, runTimed, startBuildkitd } from '../harness/index.ts'
import { startBuilder } from '../proxy/builder.ts'
import { clientKinds, createContext } from '../proxy/context.ts'

const launcher = fileURLToPath(new URL('../../cli/launcher.cjs', import.meta.url))

/** A home whose coordinator does not answer, and `hearth exec` in it. */
async function startAlone(more: NodeJS.ProcessEnv = {}) {
  const folder = await createTemporaryFolder('alone')
  const coordinator = `127.0.0.1:${await freePort()}`
  const authority = path.join(folder.path, 'ca.pem')
  const env: NodeJS.ProcessEnv = {
    ...process.env,
    ...more,
    XDG_CONFIG_HOME: path.join(folder.path, 'config'),
    XDG_STATE_HOME: path.join(folder.path, 'state'),
    HEARTH_CONFIG: path.join(folder.path, 'config.json'),
    HEARTH_COORDINATOR: coordinator,
    HEARTH_TOKEN: 'hearth_nothing',
    HEARTH_CA: authority,
    HEARTH_PROJECT: 'app',
  }
  return {
    env,
    coordinator,
    authority,
    exec: (command: readonly string[]) =>
      runTimed(process.execPath, [launcher, 'exec', '--json', '--', ...command], { env }),
    [Symbol.asyncDispose]: folder[Symbol.asyncDispose],
  }
}

test('the last known node builds', async (t) => {
  await using builder = await startBuilder()
  await using alone = await startAlone()
  const { address, serverName, files } = builder.tls
  const [caPem, certificatePem, privateKeyPem] = await Promise.all(
    [files.cacert, files.cert, files.key].map((file) => readFile(file, 'utf8')),
  )
  await writeFile(alone.authority, caPem ?? '')
  const endpoint = {
    ...{ nodeId: 'n1', address, serverName, caPem: caPem ?? '' },
    ...{ certificatePem: certificatePem ?? '', expiresAtMs: Date.now() + 60_000 },
  }
  await saveStandby(
    alone.env,
    { coordinator: alone.coordinator, project: 'app' },
    { privateKeyPem: privateKeyPem ?? '', endpoints: [endpoint] },
  )
  await using context = await createContext('RUN echo on the last known node')
  const buildctl = await findProgram('buildctl')
  const built = await alone.exec([buildctl, ...clientKinds.buildctl(context.path)])
  t.is(built.exitCode, 0, built.stderr)
  t.regex(built.stderr, /building on the last known node instead: n1/)
  t.like(JSON.parse(built.stdout), { builder: 'standby', outcome: 'succeeded' })
  t.is(await builder.runs('on the last known node'), 1)
  await builder.settled()
})

test('without any node this machine’s own builder does, for buildctl and for buildx', async (t) => {
  await using buildkitd = await startBuildkitd()
  await using own = await createBuildxClient(buildkitd.address)
  await using alone = await startAlone(own.env)
  await writeFile(alone.authority, await anyAuthority())
  await using context = await createContext('RUN echo on my own builder')
  for (const kind of ['buildctl', 'buildx'] as const) {
    const command = [await findProgram(kind), ...clientKinds[kind](context.path)]
    const built = await alone.exec(command)
    t.is(built.exitCode, 0, built.stderr)
    t.regex(built.stderr, /building on this machine's own builder "direct" \(remote\) instead/)
    t.regex(built.stderr, /RUN echo on my own builder/)
    t.like(JSON.parse(built.stdout), { builder: 'local', buildId: null })
  }
})

/** Some certificate: nobody is there to be checked against it. */
async function anyAuthority(): Promise<string> {
  await using folder = await createTemporaryFolder('authority')
  return (await openAuthority({ folder: folder.path })).caPem
}
