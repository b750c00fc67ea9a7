/** What a person may set of a builder node, for both verbs that run one. */
import { findSetting, findText, formatOrigin, type Layers, type Setting } from '../core/config.ts'
import { HearthError } from '../core/errors.ts'
import { gib, kib, mib } from '../core/limits.ts'
import type { DiskSettings } from './disk-settings.ts'
import { settings } from './settings.ts'

export interface NodeSettings {
  /** Builds at a time; undefined: as the machine allows. */
  readonly slots: number | undefined
  /** What the steps of one build may use; undefined: see NodeOptions. */
  readonly buildMemoryBytes: number | undefined
  readonly buildCpus: number | undefined
  /** Ports of this machine's 127.0.0.1 that builds pull from and push to. */
  readonly reachLoopback: readonly number[]
  /** The object store behind all nodes. */
  readonly s3: { readonly url: string; readonly endpoint: string | undefined } | undefined
  readonly disk?: DiskSettings
}

/** @throws HearthError `invalid-input` naming the flag, the variable, or the file and line. */
export async function readNodeSettings(layers: Layers): Promise<NodeSettings> {
  const slots = (await findSetting(settings.slots, layers))?.value
  return {
    slots: slots === undefined ? undefined : Number(slots),
    buildMemoryBytes: await readAs(settings.buildMemory, layers, parseSize, {
      what: 'size of at least 64m',
      hint: 'write a number of bytes, or one with k, m or g, for example 6g',
    }),
    buildCpus: await readAs(settings.buildCpus, layers, parseCores, {
      what: 'number of cores',
      hint: 'write a number from 0.1 to 1024, for example 1.5',
    }),
    reachLoopback:
      (await readAs(settings.reachLoopback, layers, parsePorts, {
        what: 'list of ports',
        hint: 'write them with commas, for example 5000,3128',
      })) ?? [],
    s3: await readObjectStore(layers),
  }
}

async function readObjectStore(layers: Layers): Promise<NodeSettings['s3']> {
  const url = await readAs(settings.s3, layers, parseBucket, {
    what: 'object store',
    hint: 'write s3://bucket or s3://bucket/prefix',
  })
  const endpoint = await readAs(settings.s3Endpoint, layers, parseEndpoint, {
    what: 'address of an object store',
    hint: 'write http://host:port or https://host:port',
  })
  if (url !== undefined) return { url, endpoint }
  if (endpoint === undefined) return undefined
  throw new HearthError('invalid-input', 'the object store has an endpoint and no bucket', {
    hint: 'name the bucket with --s3 s3://bucket/prefix (HEARTH_S3)',
  })
}

async function readAs<Value>(
  setting: Setting,
  layers: Layers,
  parse: (text: string) => Value | undefined,
  wanted: { what: string; hint: string },
): Promise<Value | undefined> {
  const found = await findText(setting, layers)
  if (found === undefined) return undefined
  const value = parse(found.value)
  if (value !== undefined) return value
  const where = await formatOrigin(setting, found.origin)
  throw new HearthError('invalid-input', `${where}: "${found.value}" is no ${wanted.what}`, {
    hint: wanted.hint,
  })
}

const unitBytes: Record<string, number> = { '': 1, k: kib, m: mib, g: gib }

/** Less, and not even a shell starts. */
const memoryBytesMin = 64 * mib

/** As Docker writes sizes: powers of 1024. */
function parseSize(text: string): number | undefined {
  const match = /^(\d{1,15})([kmg]?)b?$/i.exec(text)
  const unit = unitBytes[match?.[2]?.toLowerCase() ?? '']
  const bytes = Number(match?.[1]) * (unit ?? Number.NaN)
  return bytes >= memoryBytesMin ? bytes : undefined
}

function parseCores(text: string): number | undefined {
  const cores = /^\d{1,4}(\.\d{1,3})?$/.test(text) ? Number(text) : Number.NaN
  return cores >= 0.1 && cores <= 1024 ? cores : undefined
}

function parsePorts(text: string): number[] | undefined {
  const ports = text.split(',').map((part) => (/^\s*\d{1,5}\s*$/.test(part) ? Number(part) : 0))
  return ports.every((port) => port >= 1 && port <= 65_535) ? [...new Set(ports)] : undefined
}

/** https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html */
function parseBucket(text: string): string | undefined {
  return /^s3:\/\/[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](\/[\w.!*'()/-]*)?$/.test(text) ? text : undefined
}

function parseEndpoint(text: string): string | undefined {
  return /^https?:\/\/[^\s/]+\/?$/.test(text) && URL.canParse(text) ? text : undefined
}
