/** The options that a client gives to a frontend, without what it may not ask for. */
import { z } from 'zod'
import { HearthError } from '../../../../core/errors.ts'
import { editFields, encodeMapEntry, fieldText } from '../../../../proto/wire.ts'
import { type Narrowing, requireForeign, requireSession } from './narrowing.ts'

/** dockerui reads the session of a local source from options of this name. */
const sessionPrefix = 'local-sessionid:'

/** Go's decoder takes keys in any case and merges what stands twice: only what was read here goes on. */
const cacheImports = z.array(
  z
    .object({ Type: z.string(), Attrs: z.record(z.string(), z.string()).nullish() })
    .transform(({ Type, Attrs }) => ({ Type, Attrs: Attrs ?? {} })),
)

/**
 * @param field number of the `map<string, string>` field.
 * @throws HearthError `forbidden`, `invalid-input` when cache imports cannot be read.
 */
export function narrowOptions(narrowing: Narrowing, message: Uint8Array, field: number): Buffer {
  return editFields(message, ({ number, bytes, raw }) => {
    if (number !== field || bytes === undefined) return raw
    const key = fieldText(bytes, 1)
    const value = fieldText(bytes, 2)
    // Steps run in the group of their build, where its limits are.
    if (key === 'cgroup-parent') return undefined
    if (key.startsWith(sessionPrefix)) requireSession(narrowing, value)
    if (key === 'cache-from') requireForeign(narrowing, value, '--cache-from')
    if (key !== 'cache-imports' || value === '') return raw
    return encodeMapEntry(field, key, narrowImports(narrowing, value))
  })
}

function narrowImports(narrowing: Narrowing, option: string): string {
  const imports = parseImports(option)
  for (const value of imports.flatMap(({ Attrs }) => Object.values(Attrs))) {
    requireForeign(narrowing, value, '--cache-from')
  }
  return JSON.stringify(imports)
}

function parseImports(option: string): z.infer<typeof cacheImports> {
  try {
    return cacheImports.parse(JSON.parse(option) ?? [])
  } catch (cause) {
    throw new HearthError('invalid-input', 'the cache imports of the build cannot be read', {
      cause,
    })
  }
}
