/** What being a builder node on this machine needs. */
import { readFile, statfs } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { hasErrno } from '../../core/errors.ts'
import { readResolver } from '../../core/name-servers.ts'
import { lookUpProgram } from '../../core/programs.ts'
import { dataFolderProblem } from '../daemon/data-folder.ts'
import { isRoot } from '../folders.ts'
import { readNodeSettings } from '../node-settings.ts'
import { findDataFolder, readLayers } from '../settings.ts'
import type { Terminal } from '../terminal.ts'
import { formatBytes } from '../units.ts'
import type { Check, Finding } from './check.ts'
import { findOnPath, isAtLeast, isExecutable, versionOf } from './programs.ts'

// Older ones lose links of merged cache records without a word.
const buildkitMinimum = '0.34.2'
const cniFolders = ['/opt/cni/bin', '/usr/lib/cni', '/usr/libexec/cni', '/usr/local/lib/cni']
const cniPlugins = ['bridge', 'loopback', 'host-local', 'firewall']
const diskFreeMinimum = 2e9
const diskFreeWanted = 20e9

export function nodeChecks(terminal: Terminal, data: string | undefined): Check[] {
  const { env } = terminal
  const checks: [name: string, run: Check['run']][] = [
    ['system', async () => checkSystem()],
    ['root', async () => checkRoot()],
    ['runc', ({ signal }) => checkRunc(env, signal)],
    ['CNI plugins', () => checkCni(env)],
    ['iptables', () => checkProgram('iptables', 'iptables', env)],
    ['nftables', () => checkProgram('nft', 'nftables', env)],
    ['iproute2', () => checkProgram('ip', 'iproute2', env)],
    ['curl', () => checkProgram('curl', 'curl', env)],
    ['zstd', () => checkProgram('zstd', 'zstd', env)],
    ['buildkitd', ({ signal }) => checkBuildkitd(env, signal)],
    ['name servers', () => checkNameServers()],
    ['cgroups', () => checkCgroups()],
    ['overlayfs', () => checkOverlay()],
    ['data folder', () => checkDataFolder(terminal, data)],
    ['disk', () => checkDisk(terminal, data)],
    ['object store', ({ signal }) => checkObjectStore(terminal, data, signal)],
    ['other platforms', () => checkEmulation()],
  ]
  return checks.map(([name, run]) => ({ name, needed: 'node', run }))
}

function checkSystem(): Finding {
  const found = `${os.type()} ${os.machine()}`
  const supported = os.platform() === 'linux' && ['x64', 'arm64'].includes(os.arch())
  if (supported) return { state: 'ok', found }
  return { state: 'problem', found, fix: 'run nodes on Linux, on amd64 or arm64' }
}

function checkRoot(): Finding {
  if (isRoot()) return { state: 'ok', found: 'running as root' }
  const fix = 'start nodes as root (sudo hearth up); building from here does not need it'
  return { state: 'problem', found: 'not running as root', fix }
}

async function checkRunc(env: NodeJS.ProcessEnv, signal: AbortSignal): Promise<Finding> {
  const runc = (await findOnPath('buildkit-runc', env)) ?? (await lookUpProgram('runc', env))
  if (runc === undefined) return missing('apt-get install runc')
  const version = await versionOf(runc, ['--version'], signal)
  return { state: 'ok', found: `${version ?? 'unknown version'} (${runc})` }
}

async function checkCni(env: NodeJS.ProcessEnv): Promise<Finding> {
  for (const folder of cniFolders) {
    const there = await Promise.all(cniPlugins.map((name) => isExecutable(path.join(folder, name))))
    if (there.every(Boolean)) return { state: 'ok', found: folder }
  }
  const bundled = await findOnPath('buildkit-cni-bridge', env)
  if (bundled !== undefined) return { state: 'ok', found: path.dirname(bundled) }
  return missing('apt-get install containernetworking-plugins')
}

async function checkProgram(
  name: string,
  debianPackage: string,
  env: NodeJS.ProcessEnv,
): Promise<Finding> {
  // An npm package has an `nft`, too.
  const folders = `/usr/sbin:/sbin:/usr/bin:/bin:${env.PATH ?? ''}`
  const found = await findOnPath(name, { PATH: folders })
  return found === undefined ? missing(`apt-get install ${debianPackage}`) : { state: 'ok', found }
}

async function checkNameServers(): Promise<Finding> {
  const { content, nameServers } = await readResolver()
  if (nameServers.length > 0) return { state: 'ok', found: nameServers.join(', ') }
  return {
    state: 'warning',
    found:
      content === undefined
        ? 'no /etc/resolv.conf'
        : 'none that builds reach (IPv4, beyond loopback)',
    fix: 'name one in /etc/resolv.conf, or builds look up no names',
  }
}

async function checkBuildkitd(env: NodeJS.ProcessEnv, signal: AbortSignal): Promise<Finding> {
  const buildkitd = await lookUpProgram('buildkitd', env)
  if (buildkitd === undefined) return missing('hearth doctor --fix builds it; it needs Go 1.26.8')
  const version = await versionOf(buildkitd, ['--version'], signal)
  if (version === undefined) {
    const fix = `make sure that it is ${buildkitMinimum} or newer`
    return { state: 'warning', found: `${buildkitd} does not say its version`, fix }
  }
  if (isAtLeast(version, buildkitMinimum))
    return { state: 'ok', found: `${version} (${buildkitd})` }
  const fix = `use ${buildkitMinimum} or newer: hearth doctor --fix builds one`
  return { state: 'problem', found: `${version} is too old (${buildkitd})`, fix }
}

async function checkCgroups(): Promise<Finding> {
  if (await readText('/sys/fs/cgroup/cgroup.controllers')) return { state: 'ok', found: 'v2' }
  const mounts = await readText('/proc/self/mounts')
  if (/ cgroup2? /m.test(mounts)) return { state: 'ok', found: 'v1' }
  const fix = 'mount them (systemd does); in a container: give it --privileged'
  return { state: 'problem', found: 'not mounted', fix }
}

async function checkOverlay(): Promise<Finding> {
  if (/\boverlay$/m.test(await readText('/proc/filesystems'))) {
    return { state: 'ok', found: 'known to the kernel' }
  }
  const fix = 'modprobe overlay; without it BuildKit copies whole layers'
  return { state: 'warning', found: 'not known to the kernel', fix }
}

async function checkDataFolder(terminal: Terminal, data: string | undefined): Promise<Finding> {
  const { folder } = await findDataFolder(terminal, await readLayers(terminal, { data }))
  try {
    const problem = await dataFolderProblem(folder)
    if (problem === undefined) return { state: 'ok', found: folder }
    const fix = 'run as its owner, or name another folder with --data or HEARTH_DATA'
    return { state: 'problem', found: problem, fix }
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) throw error
    return { state: 'ok', found: `${folder} (made by the first "hearth up")` }
  }
}

async function checkDisk(terminal: Terminal, data: string | undefined): Promise<Finding> {
  const { folder } = await findDataFolder(terminal, await readLayers(terminal, { data }))
  const { bavail, bsize } = await statfs(await existingParent(folder))
  const free = bavail * bsize
  const found = `${formatBytes(free)} free at ${folder}`
  if (free >= diskFreeWanted) return { state: 'ok', found }
  const fix = `free some space: ${formatBytes(diskFreeWanted)} make a useful cache`
  return { state: free < diskFreeMinimum ? 'problem' : 'warning', found, fix }
}

async function checkObjectStore(
  terminal: Terminal,
  data: string | undefined,
  signal: AbortSignal,
): Promise<Finding> {
  const { s3 } = await readNodeSettings(await readLayers(terminal, { data }))
  if (s3 === undefined) {
    return { state: 'ok', found: 'none is set (optional: the cache outlives every machine there)' }
  }
  // The SDK takes a while to load.
  const { tryObjectStore } = await import('./object-store.ts')
  return await tryObjectStore(s3, { signal })
}

/** Emulators for platforms that this machine's processor does not run; nobody has to have them. */
async function checkEmulation(): Promise<Finding> {
  const own = os.arch() === 'arm64' ? 'aarch64' : 'x86_64'
  const wanted = own === 'aarch64' ? 'x86_64' : 'aarch64'
  const entry = await readText(`/proc/sys/fs/binfmt_misc/qemu-${wanted}`)
  if (entry.startsWith('enabled')) return { state: 'ok', found: `${wanted} by qemu` }
  const found = 'no emulation (optional: a node of that platform is faster)'
  return { state: 'ok', found }
}

function missing(fix: string): Finding {
  return { state: 'problem', found: 'not on this machine', fix }
}

async function existingParent(folder: string): Promise<string> {
  for (let current = folder; ; current = path.dirname(current)) {
    try {
      await statfs(current)
      return current
    } catch (error) {
      if (!hasErrno(error, 'ENOENT') || current === path.dirname(current)) throw error
    }
  }
}

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8')
  } catch {
    return ''
  }
}
