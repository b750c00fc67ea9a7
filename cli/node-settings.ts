/** What a person may set of a builder node, for both verbs that run one. */
import { findSetting, findText, formatOrigin, type Layers } from '../core/config.ts'
import { HearthError } from '../core/errors.ts'
import { settings } from './settings.ts'

export interface NodeSettings {
  /** Builds at a time; undefined: as the machine allows. */
  readonly slots: number | undefined
  /** Ports of this machine's 127.0.0.1 that builds pull from and push to. */
  readonly reachLoopback: readonly number[]
}

/** @throws HearthError `invalid-input` naming the flag, the variable, or the file and line. */
export async function readNodeSettings(layers: Layers): Promise<NodeSettings> {
  const slots = (await findSetting(settings.slots, layers))?.value
  return {
    slots: slots === undefined ? undefined : Number(slots),
    reachLoopback: await readPorts(layers),
  }
}

async function readPorts(layers: Layers): Promise<number[]> {
  const setting = settings.reachLoopback
  const found = await findText(setting, layers)
  if (found === undefined) return []
  const texts = found.value.split(',').map((text) => text.trim())
  const ports = texts.map((text) => (/^\d{1,5}$/.test(text) ? Number(text) : 0))
  if (ports.every((port) => port >= 1 && port <= 65_535)) return [...new Set(ports)]
  const where = await formatOrigin(setting, found.origin)
  throw new HearthError('invalid-input', `${where}: "${found.value}" is no list of ports`, {
    hint: 'write them with commas, for example 5000,3128',
  })
}
