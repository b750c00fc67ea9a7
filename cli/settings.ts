/** Every setting of Hearth, and the files that settings are read from. */
import path from 'node:path'
import { findText, type Layers, type Setting } from '../core/config.ts'
import { type ConfigFile, readConfigFile } from '../core/config-file.ts'
import type { LogLevel } from '../core/log.ts'
import { defaultDataFolder, settingsFile } from './folders.ts'
import type { Terminal } from './terminal.ts'

// Written out here because the list itself lives beside the logger, which client verbs do not load.
const logLevels = [
  'trace',
  'debug',
  'info',
  'warn',
  'error',
  'silent',
] as const satisfies readonly LogLevel[]

export const settings = {
  project: {
    name: 'project',
    flag: '--project',
    environment: 'HEARTH_PROJECT',
    rule: { type: 'text' },
    description: 'the project that builds belong to',
  },
  data: {
    name: 'data',
    flag: '--data',
    environment: 'HEARTH_DATA',
    rule: { type: 'text' },
    description: 'the folder that "hearth up" keeps its data in',
  },
  coordinator: {
    name: 'coordinator',
    flag: undefined,
    environment: 'HEARTH_COORDINATOR',
    rule: { type: 'text' },
    description: 'the coordinator to ask, as host:port',
  },
  token: {
    name: 'token',
    flag: undefined,
    environment: 'HEARTH_TOKEN',
    rule: { type: 'text' },
    description: 'the credential for the coordinator',
    secret: true,
  },
  ca: {
    name: 'ca',
    flag: undefined,
    environment: 'HEARTH_CA',
    rule: { type: 'text' },
    description: "a file with the coordinator's certificate authority (PEM)",
  },
  port: {
    name: 'port',
    flag: '--port',
    environment: 'HEARTH_PORT',
    rule: { type: 'integer', min: 0, max: 65_535 },
    description: 'the port that a coordinator listens on; 0 takes any free one',
  },
  slots: {
    name: 'slots',
    flag: '--slots',
    environment: 'HEARTH_SLOTS',
    rule: { type: 'integer', min: 1, max: 1024 },
    description: 'builds that a node runs at once; unset: as cores and memory allow',
  },
  buildMemory: {
    name: 'buildMemory',
    flag: '--build-memory',
    environment: 'HEARTH_BUILD_MEMORY',
    rule: { type: 'text' },
    description: "memory that a build's steps may use, such as 6g; unset: the machine's, by slots",
  },
  buildCpus: {
    name: 'buildCpus',
    flag: '--build-cpus',
    environment: 'HEARTH_BUILD_CPUS',
    rule: { type: 'text' },
    description: "cores that a build's steps may use, such as 1.5; unset: all that are idle",
  },
  reachLoopback: {
    name: 'reachLoopback',
    flag: '--reach-loopback',
    environment: 'HEARTH_REACH_LOOPBACK',
    rule: { type: 'text' },
    description: "ports of a node's own 127.0.0.1 that its builds pull from and push to",
  },
  diskGb: {
    name: 'diskGb',
    flag: '--disk-gb',
    environment: 'HEARTH_DISK_GB',
    rule: { type: 'integer', min: 1, max: 1_000_000 },
    description: 'what all caches of a node may take of its disk, in GB; unset: as the disk allows',
  },
  diskFreeGb: {
    name: 'diskFreeGb',
    flag: '--disk-free-gb',
    environment: 'HEARTH_DISK_FREE_GB',
    rule: { type: 'integer', min: 1, max: 1_000_000 },
    description:
      'free disk below which a node begins no build, in GB; unset: 2.1, less on small disks',
  },
  s3: {
    name: 's3',
    flag: '--s3',
    environment: 'HEARTH_S3',
    rule: { type: 'text' },
    description: 'the object store behind all nodes, as s3://bucket/prefix',
  },
  s3Endpoint: {
    name: 's3Endpoint',
    flag: '--s3-endpoint',
    environment: 'HEARTH_S3_ENDPOINT',
    rule: { type: 'text' },
    description: 'where the object store is, as https://host:port; unset: AWS',
  },
  platform: {
    name: 'platform',
    flag: '--platform',
    environment: 'HEARTH_NODE_PLATFORM',
    rule: { type: 'text' },
    description: "the platform that a node builds by emulation; unset: the machine's own",
  },
  logLevel: {
    name: 'logLevel',
    flag: '--log-level',
    environment: 'HEARTH_LOG_LEVEL',
    rule: { type: 'choice', choices: logLevels },
    description: 'how much the daemons log',
  },
} as const satisfies Record<string, Setting>

/** "HEAR" on a telephone's keys. */
export const defaultPort = 4327

/** Keys of the settings file of a machine or person. */
const settingsFileKeys = [
  'data',
  'port',
  'slots',
  'buildMemory',
  'buildCpus',
  'reachLoopback',
  'diskGb',
  'diskFreeGb',
  's3',
  's3Endpoint',
  'logLevel',
] as const

/**
 * The layers below the flags of a verb.
 * @param flags by setting name.
 * @param files read before the settings file, for example hearth.json.
 */
export async function readLayers(
  terminal: Terminal,
  flags: Layers['flags'],
  files: readonly ConfigFile[] = [],
): Promise<Layers> {
  const own = await readConfigFile(settingsFile(terminal.env), settingsFileKeys)
  return {
    flags,
    environment: terminal.env,
    files: own === undefined ? files : [...files, own],
  }
}

/** The data folder, absolute: a relative one in a file is relative to that file. */
export async function findDataFolder(
  terminal: Terminal,
  layers: Layers,
): Promise<{ folder: string; named: boolean }> {
  const found = await findText(settings.data, layers)
  if (found === undefined) return { folder: defaultDataFolder(terminal.env), named: false }
  const base = found.origin.type === 'file' ? path.dirname(found.origin.file.path) : terminal.folder
  return { folder: path.resolve(base, found.value), named: true }
}
