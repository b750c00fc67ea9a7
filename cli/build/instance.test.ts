import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import test from 'ava'
import { findProgram } from '../../core/programs.ts'
import { makeHome } from '../command-fixture.ts'
import { type InstanceNode, instanceName, writeInstance } from './instance.ts'

function node(port: number, ...platforms: string[]): InstanceNode {
  return {
    address: `127.0.0.1:${port}`,
    serverName: 'n1.node.hearth.internal',
    caPem: 'ca\n',
    certificatePem: 'certificate\n',
    platforms,
  }
}

test('buildx itself reads the instance as a remote builder with these nodes', async (t) => {
  const home = await makeHome(t)
  const folder = await mkdtemp(path.join(os.tmpdir(), 'hearth-instance-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const nodes = [node(1, 'linux/amd64'), node(2, 'linux/arm64/v8')]
  const config = await writeInstance(folder, nodes, 'key\n', home.env)
  const env = { ...home.env, BUILDX_CONFIG: config }
  const { stdout } = await promisify(execFile)(
    await findProgram('buildx'),
    ['ls', '--format', 'json', '--timeout', '1s'],
    { env },
  )
  const lines = stdout.trim().split('\n')
  const found = lines.map((line) => JSON.parse(line)).find(({ Name }) => Name === instanceName)
  t.is(found.Driver, 'remote')
  t.like(found.Nodes, [
    { Endpoint: 'tcp://127.0.0.1:1', Platforms: ['linux/amd64'] },
    { Endpoint: 'tcp://127.0.0.1:2', Platforms: ['linux/arm64'] },
  ])
  t.is(found.Nodes[0].DriverOpts.servername, 'n1.node.hearth.internal')
})

test('credentials for single registries and image policies stay in effect', async (t) => {
  const home = await makeHome(t)
  await home.write({
    'own/config/registry.example.com/team/config.json': '{"auths":{}}',
    'own/policy/tuf/root.json': '{}',
  })
  const folder = path.join(home.folder, 'private')
  const env = { ...home.env, BUILDX_CONFIG: path.join(home.folder, 'own') }
  const config = await writeInstance(folder, [node(1)], 'key\n', env)
  const credentials = path.join(config, 'config/registry.example.com/team/config.json')
  t.is(await readFile(credentials, 'utf8'), '{"auths":{}}')
  t.is(await readFile(path.join(config, 'policy/tuf/root.json'), 'utf8'), '{}')
})
