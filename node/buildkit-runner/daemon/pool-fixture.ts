/** What the tests of this room need: a pool in a folder of its own, builds, and a look at the machine. */
import { execFile } from 'node:child_process'
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import type { ExecutionContext } from 'ava'
import { parse } from 'smol-toml'
import { silentLogger } from '../../../core/log.ts'
import { findProgram } from '../../../core/programs.ts'
import { makeScope } from '../../../core/scope.ts'
import { createDaemonPool } from './daemon-pool.ts'
import type { DaemonHandle, DaemonPool, DaemonPoolOptions } from './index.ts'

const execute = promisify(execFile)

export const mainScope = makeScope('app', 'main')
export const forkScope = makeScope('app', 'fork')

/** For whatever a test waits for: long enough for a busy machine. */
export const limitMs = 30_000

export function soon(): AbortSignal {
  return AbortSignal.timeout(limitMs)
}

export async function temporaryFolder(t: ExecutionContext): Promise<string> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'hearth-daemon-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  return folder
}

/** For tests that build without a cache. */
const noRegistry: DaemonPoolOptions['registry'] = {
  host: 'hearth.cache',
  port: 5000,
  serve: (listener) => ({ [Symbol.dispose]: () => void listener.close() }),
}

/** A pool that is closed with its test. */
export async function openPool(
  t: ExecutionContext,
  options: Partial<DaemonPoolOptions> = {},
): Promise<{ pool: DaemonPool; folder: string }> {
  const folder = options.folder ?? (await temporaryFolder(t))
  const pool = await createDaemonPool(
    { log: silentLogger },
    { registry: noRegistry, ...options, folder },
  )
  t.teardown(() => pool[Symbol.asyncDispose]())
  return { pool, folder }
}

/** Waits until the condition holds, and fails the test when it does not in time. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
): Promise<void> {
  const deadline = performance.now() + limitMs
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`waited in vain: ${what}`)
    await delay(20)
  }
}

/** Builds a Dockerfile with busybox beside it by buildctl; returns what it printed. */
export async function build(
  t: ExecutionContext,
  handle: DaemonHandle,
  dockerfile: string,
  options: { output?: string } = {},
): Promise<string> {
  const context = await temporaryFolder(t)
  await copyFile('/bin/busybox', path.join(context, 'busybox'))
  await writeFile(path.join(context, 'Dockerfile'), dockerfile)
  const { stderr } = await execute(
    await findProgram('buildctl'),
    [
      '--addr',
      `unix://${handle.socket}`,
      'build',
      '--progress=plain',
      '--frontend=dockerfile.v0',
      `--local=context=${context}`,
      `--local=dockerfile=${context}`,
      ...(options.output === undefined ? [] : ['--output', `type=local,dest=${options.output}`]),
    ],
    { timeout: limitMs },
  )
  return stderr
}

/** The network in the configuration that a handle's daemon was started with. */
export async function networkOf(
  handle: DaemonHandle,
): Promise<{ bridge: string; subnet: string; configFile: string }> {
  const configFile = handle.socket.replace(/\.sock$/, '.toml')
  const config = parse(await readFile(configFile, 'utf8')) as {
    worker: { oci: { bridgeName: string; bridgeSubnet: string } }
  }
  const { bridgeName, bridgeSubnet } = config.worker.oci
  return { bridge: bridgeName, subnet: bridgeSubnet, configFile }
}

/** Interfaces, packet filter rules and control groups that name a bridge or lie in its subnet. */
export async function leavings(network: { bridge: string; subnet: string }): Promise<string[]> {
  const links = await execute('ip', ['-brief', 'link', 'show'])
  const rules = await execute('iptables-save')
  const prefix = network.subnet.slice(0, network.subnet.lastIndexOf('.') + 1)
  const found = `${links.stdout}\n${rules.stdout}`
    .split('\n')
    .filter((line) => line.includes(network.bridge) || line.includes(prefix))
  const groups = await Promise.all(
    ['.', ...(await readdir('/sys/fs/cgroup'))].map((tree) =>
      readdir(path.join('/sys/fs/cgroup', tree)).catch(() => []),
    ),
  )
  return [...found, ...groups.flat().filter((name) => name.includes(network.bridge))]
}

/** Processes whose command line holds this text, for example a file in a test's own folder. */
export async function processesWith(text: string): Promise<{ pid: number; program: string }[]> {
  const found: { pid: number; program: string }[] = []
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) continue
    const line = await readFile(`/proc/${name}/cmdline`, 'utf8').catch(() => '')
    if (line.includes(text)) {
      found.push({ pid: Number(name), program: path.basename(line.split('\0')[0] ?? '') })
    }
  }
  return found
}

/** The buildkitd itself, below the programs that start it. */
export async function buildkitdOf(configFile: string): Promise<number> {
  const found = (await processesWith(configFile)).find(({ program }) => program === 'buildkitd')
  if (found === undefined) throw new Error(`no buildkitd runs with ${configFile}`)
  return found.pid
}

/** A program that stands in for buildkitd. */
export async function fakeBuildkitd(t: ExecutionContext, script: string): Promise<string> {
  const folder = path.join(await temporaryFolder(t), 'bin')
  await mkdir(folder)
  const file = path.join(folder, 'buildkitd')
  await writeFile(file, `#!/bin/sh\n${script}\n`, { mode: 0o755 })
  return file
}
