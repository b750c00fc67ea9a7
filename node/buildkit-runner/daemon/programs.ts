/** What a machine must have to run BuildKit, found before the first build needs it. */
import { constants } from 'node:fs'
import { access } from 'node:fs/promises'
import path from 'node:path'
import { HearthError } from '../../../core/errors.ts'
import { findProgram, lookUpProgram } from '../../../core/programs.ts'
import { searchPath, systemPath } from './system-command.ts'

export interface DaemonPrograms {
  readonly buildkitd: string
  readonly runc: string
  /** Folder of the CNI plugins. */
  readonly cniFolder: string
}

const cniFolders = ['/opt/cni/bin', '/usr/lib/cni', '/usr/libexec/cni', '/usr/local/lib/cni']
const cniPlugins = ['bridge', 'loopback', 'host-local', 'firewall']

/** Small programs of the machine that we run ourselves, and the Debian package of each. */
const systemPrograms: ReadonlyArray<[program: string, debianPackage: string]> = [
  ['ip', 'iproute2'],
  ['iptables', 'iptables'],
  ['iptables-save', 'iptables'],
  ['iptables-restore', 'iptables'],
  ['nft', 'nftables'],
  ['nsenter', 'util-linux'],
  ['setpriv', 'util-linux'],
  ['unshare', 'util-linux'],
  ['flock', 'util-linux'],
  ['mount', 'mount'],
  ['tar', 'tar'],
  ['zstd', 'zstd'],
  ['find', 'findutils'],
  ['curl', 'curl'],
]

/**
 * @param named paths that somebody chose; the rest is looked for.
 * @throws HearthError `environment` naming the first thing that is missing and how to get it.
 */
export async function findDaemonPrograms(
  named: Partial<DaemonPrograms> = {},
  env: NodeJS.ProcessEnv = process.env,
): Promise<DaemonPrograms> {
  if (process.platform !== 'linux') {
    throw new HearthError('environment', 'builds run on Linux only', {
      hint: 'start the node on a Linux machine; build, and look at builds, from anywhere',
    })
  }
  if (process.getuid?.() !== 0) {
    throw new HearthError('environment', 'running BuildKit needs root', {
      hint: 'start the node as root, for example with sudo',
    })
  }
  for (const [program, debianPackage] of systemPrograms) {
    if ((await findIn(systemPath(env), program)) === undefined) {
      throw missing(program, `install it: apt-get install ${debianPackage}`)
    }
  }
  return {
    buildkitd: (await checked(named.buildkitd)) ?? (await findProgram('buildkitd', env)),
    runc: (await checked(named.runc)) ?? (await findRunc(env)),
    cniFolder: await findCniFolder(named.cniFolder, env),
  }
}

async function checked(file: string | undefined): Promise<string | undefined> {
  if (file === undefined || (await isExecutable(file))) return file
  throw missing(file, 'check the path, and that the file is executable')
}

async function findRunc(env: NodeJS.ProcessEnv): Promise<string> {
  const found = (await findOnPath('buildkit-runc', env)) ?? (await lookUpProgram('runc', env))
  if (found === undefined) throw missing('runc', 'install it: apt-get install runc')
  return found
}

async function findCniFolder(named: string | undefined, env: NodeJS.ProcessEnv): Promise<string> {
  for (const folder of named === undefined ? cniFolders : [named]) {
    const found = await Promise.all(cniPlugins.map((name) => isExecutable(path.join(folder, name))))
    if (found.every(Boolean)) return folder
  }
  // BuildKit's own distribution has the plugins under other names, and prefers them by itself.
  const bundled = named === undefined ? await findOnPath('buildkit-cni-bridge', env) : undefined
  if (bundled !== undefined) return path.dirname(bundled)
  throw missing(
    `CNI plugins (${cniPlugins.join(', ')})`,
    'install them: apt-get install containernetworking-plugins',
  )
}

function missing(what: string, hint: string): HearthError {
  return new HearthError('environment', `not found on this machine: ${what}`, { hint })
}

function findOnPath(program: string, env: NodeJS.ProcessEnv): Promise<string | undefined> {
  return findIn(searchPath(env), program)
}

async function findIn(folders: string, program: string): Promise<string | undefined> {
  for (const folder of folders.split(':')) {
    const candidate = path.join(folder, program)
    if (await isExecutable(candidate)) return candidate
  }
  return undefined
}

async function isExecutable(file: string): Promise<boolean> {
  try {
    await access(file, constants.X_OK)
    return true
  } catch {
    return false
  }
}
