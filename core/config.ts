/**
 * Layered configuration: a flag beats the environment (`HEARTH_…`), which beats a file, which beats the
 * default. Every value knows where it came from, so that `hearth config` can say so and a mistake points
 * into the layer it was made in.
 *
 * Plain texts are taken as they are. Everything else is checked with zod, which is loaded only then: what a
 * build reads on its way to the first step is all text.
 */
import type { ConfigFile } from './config-file.ts'
import { HearthError } from './errors.ts'

export type Origin =
  | { readonly type: 'flag'; readonly name: string }
  | { readonly type: 'environment'; readonly name: string }
  | { readonly type: 'file'; readonly file: ConfigFile }
  /** `reason`: how the default was found, when it is not the same everywhere. */
  | { readonly type: 'default'; readonly reason: string | undefined }

export type Rule =
  | { readonly type: 'text' }
  | { readonly type: 'integer'; readonly min: number; readonly max: number }
  | { readonly type: 'choice'; readonly choices: readonly string[] }

export interface Setting {
  /** Its key in a file and its name in `hearth config`. */
  readonly name: string
  /** With its dashes, for messages. */
  readonly flag: string | undefined
  readonly environment: `HEARTH_${string}`
  readonly rule: Rule
  readonly description: string
  /** Never printed. */
  readonly secret?: boolean
}

export interface Layers {
  /** By setting name, as typed; what was not typed is absent or undefined. */
  readonly flags: Readonly<Record<string, string | undefined>>
  readonly environment: NodeJS.ProcessEnv
  /** The first file that has the key wins. */
  readonly files: readonly ConfigFile[]
}

export interface Found {
  readonly value: string | number
  readonly origin: Origin
}

/**
 * The value that holds, or undefined when no layer has one. An empty environment variable counts as unset.
 * @throws HearthError `invalid-input` naming the flag, the variable, or the file and line.
 */
export async function findSetting(setting: Setting, layers: Layers): Promise<Found | undefined> {
  const typed = layers.flags[setting.name]
  if (typed !== undefined) {
    return await check(setting, typed, { type: 'flag', name: setting.flag ?? setting.name })
  }
  const exported = layers.environment[setting.environment]
  if (exported !== undefined && exported !== '') {
    return await check(setting, exported, { type: 'environment', name: setting.environment })
  }
  for (const file of layers.files) {
    if (!file.values.has(setting.name)) continue
    return await check(setting, file.values.get(setting.name), { type: 'file', file })
  }
  return undefined
}

/** The same for a setting that is a text. */
export async function findText(
  setting: Setting,
  layers: Layers,
): Promise<{ value: string; origin: Origin } | undefined> {
  const found = await findSetting(setting, layers)
  return found === undefined ? undefined : { value: String(found.value), origin: found.origin }
}

/** For people: "--port", "HEARTH_PORT", "/etc/hearth/config.json:3", "default". */
export async function formatOrigin(setting: Setting, origin: Origin): Promise<string> {
  switch (origin.type) {
    case 'flag':
    case 'environment':
      return origin.name
    case 'file': {
      const line = await origin.file.lineOf(setting.name)
      return line === undefined ? origin.file.path : `${origin.file.path}:${line}`
    }
    case 'default':
      return origin.reason === undefined ? 'default' : `default (${origin.reason})`
  }
}

async function check(setting: Setting, value: unknown, origin: Origin): Promise<Found> {
  if (setting.rule.type === 'text' && typeof value === 'string' && value !== '') {
    return { value, origin }
  }
  const { checkRule } = await import('./config-rules.ts')
  // In a file a number is a number; typed or exported it is text.
  const outcome = checkRule(setting.rule, value, { fromText: origin.type !== 'file' })
  if (outcome.type === 'accepted') return { value: outcome.value, origin }
  const shown = setting.secret ? 'the value' : JSON.stringify(value)
  const what = origin.type === 'file' ? `${setting.name}: ${shown}` : shown
  const place = await formatOrigin(setting, origin)
  throw new HearthError('invalid-input', `${place}: ${what} ${outcome.problem}`, {
    hint: `${setting.name}: ${setting.description}`,
  })
}
