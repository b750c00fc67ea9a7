/**
 * Splices into the messages of a build: the scope's record joins the client's own cache imports, and the
 * parts that a shadow build has to share with the client's build are taken out. Field numbers are those of
 * proto/buildkit; what is not named here stays as the client wrote it.
 */
import { z } from 'zod'
import type { SolveRequest } from '../../../proto/generated/buildkit/control.ts'
import {
  editFields,
  encodeField,
  encodeMapEntry,
  fieldBytes,
  fieldText,
  wireFields,
} from '../../../proto/wire.ts'

/** A `CacheOptionsEntry` (type, attrs), the form in which a solve names cache to import or export. */
export interface CacheEntry {
  readonly type: string
  readonly attributes: Readonly<Record<string, string>>
}

export function encodeCacheEntry(entry: CacheEntry): Uint8Array {
  const attributes = Object.entries(entry.attributes).map(([key, value]) =>
    encodeMapEntry(2, key, value),
  )
  return Buffer.concat([encodeField(1, entry.type), ...attributes])
}

const frontendImports = z.array(
  z.looseObject({ Type: z.string(), Attrs: z.record(z.string(), z.string()).nullish() }),
)

/** Frontends read imports only from this option, a JSON list; see moby/buildkit frontend/dockerui. */
const cacheImportsOption = 'cache-imports'

/**
 * Adds an import to the options of a frontend. A map key that stands twice counts the last time, so the
 * addition goes behind. Options that are not understood are left alone, without our import.
 * @param optionsField number of the `map<string, string>` field.
 */
function withFrontendImport(message: Uint8Array, optionsField: number, entry: CacheEntry): Buffer {
  const existing = optionsOf(message, optionsField).get(cacheImportsOption) ?? '[]'
  const list = parseImports(existing)
  if (list === undefined) return Buffer.from(message)
  const joined = [...list, { Type: entry.type, Attrs: entry.attributes }]
  return Buffer.concat([
    message,
    encodeMapEntry(optionsField, cacheImportsOption, JSON.stringify(joined)),
  ])
}

function parseImports(option: string): z.infer<typeof frontendImports> | undefined {
  try {
    return frontendImports.parse(JSON.parse(option))
  } catch {
    return undefined
  }
}

function optionsOf(message: Uint8Array, field: number): Map<string, string> {
  return new Map(fieldBytes(message, field).map((pair) => [fieldText(pair, 1), fieldText(pair, 2)]))
}

/** LLBBridge.Solve: frontend = 2, frontend_opt = 3, cache_imports = 12. */
export function withBridgeImport(message: Uint8Array, entry: CacheEntry): Buffer {
  return fieldText(message, 2) === ''
    ? Buffer.concat([message, encodeField(12, encodeCacheEntry(entry))])
    : withFrontendImport(message, 3, entry)
}

/** Asks a frontend a question (an outline, a lint, the operations) instead of building. */
export function isSubrequest(bridgeMessage: Uint8Array): boolean {
  return optionsOf(bridgeMessage, 3).has('requestid')
}

/** Control.Solve: frontend = 6, frontend_attrs = 7, cache = 8 { imports = 5 }. */
export function withControlImport(message: Uint8Array, entry: CacheEntry): Buffer {
  if (fieldText(message, 6) !== '') return withFrontendImport(message, 7, entry)
  const cache = fieldBytes(message, 8).at(-1) ?? Buffer.alloc(0)
  const joined = Buffer.concat([cache, encodeField(5, encodeCacheEntry(entry))])
  const others = editFields(message, (field) => (field.number === 8 ? undefined : field.raw))
  return Buffer.concat([others, encodeField(8, joined)])
}

/** Control.Solve under another reference (field 1). */
export function withRef(message: Uint8Array, ref: string): Buffer {
  return editFields(message, (field) => (field.number === 1 ? encodeField(1, ref) : field.raw))
}

/**
 * The LLBBridge.Solve that does what this Control.Solve does by itself, for clients that drive no bridge:
 * definition = 2 -> 1, frontend = 6 -> 2, frontend_attrs = 7 -> 3, frontend_inputs = 10 -> 13,
 * cache.imports = 8.5 -> 12; results may be returned as references and lists (5, 6).
 */
export function bridgeSolveOf(controlMessage: Uint8Array): Buffer {
  const renumbered = new Map([
    [2, 1],
    [6, 2],
    [7, 3],
    [10, 13],
  ])
  const moved = editFields(controlMessage, (field) => {
    if (field.bytes === undefined) return undefined
    if (field.number === 8) {
      return Buffer.concat(fieldBytes(field.bytes, 5).map((entry) => encodeField(12, entry)))
    }
    const number = renumbered.get(field.number)
    return number === undefined ? undefined : encodeField(number, field.bytes)
  })
  return Buffer.concat([moved, allowResults])
}

/** LLBBridge.Solve: allow_result_return = 5, allow_result_array_ref = 6, both true. */
export const allowResults = Buffer.from([(5 << 3) | 0, 1, (6 << 3) | 0, 1])

/**
 * What a shadow build must have in common with the client's: two jobs on the same operations must agree
 * on them. entitlements = 9, source_policy = 12, source_policy_session = 15, compatibility_version = 16,
 * proxy_network = 17.
 */
export function sharedSolveFields(controlMessage: Uint8Array): Buffer {
  const shared = new Set([9, 12, 15, 16, 17])
  return editFields(controlMessage, (field) => (shared.has(field.number) ? field.raw : undefined))
}

/** The cache imports of an LLBBridge.Solve, in the form that a solve by definition takes (field 12). */
export function definitionImportsOf(bridgeMessage: Uint8Array): Buffer {
  const given = editFields(bridgeMessage, (field) => (field.number === 12 ? field.raw : undefined))
  const option = optionsOf(bridgeMessage, 3).get(cacheImportsOption)
  if (option === undefined) return given
  const named = (parseImports(option) ?? []).map(({ Type, Attrs }) =>
    encodeField(12, encodeCacheEntry({ type: Type, attributes: Attrs ?? {} })),
  )
  return Buffer.concat([given, ...named])
}

/** Definition.metadata = 2 { key = 1, OpMetadata = 2 { ignore_cache = 1 } }, with ignore_cache taken out. */
export function withoutIgnoreCache(definition: Uint8Array): Buffer {
  return editFields(definition, (field) => {
    if (field.number !== 2 || field.bytes === undefined) return field.raw
    const entry = editFields(field.bytes, (part) => {
      if (part.number !== 2 || part.bytes === undefined) return part.raw
      return encodeField(
        2,
        editFields(part.bytes, (option) => (option.number === 1 ? undefined : option.raw)),
      )
    })
    return encodeField(2, entry)
  })
}

/** Compression that the client names for its own image; the shadow's layers must not differ from it. */
export function imageCompressionOf(request: SolveRequest): Record<string, string> {
  const attributes = [
    ...request.exporters.map((exporter) => exporter.attrs),
    request.exporterAttrsDeprecated,
  ].find((attrs) => attrs.compression !== undefined)
  if (attributes?.compression === undefined) return {}
  const level = attributes['compression-level']
  return {
    compression: attributes.compression,
    ...(level === undefined ? {} : { 'compression-level': level }),
  }
}

/** A result reference and the graph that makes it, from an LLBBridge.Solve reply. */
export interface ResultRef {
  readonly id: string
  /** Encoded `pb.Definition`. */
  readonly definition: Uint8Array | undefined
}

/**
 * The references of an LLBBridge.Solve reply: result = 3. References of attestations are left out: nobody
 * imports their cache.
 */
export function replyRefs(replyMessage: Uint8Array): ResultRef[] {
  return fieldBytes(replyMessage, 3).flatMap(resultRefs)
}

/** The references that a client returns as its result, from LLBBridge.Return: result = 1. */
export function returnedRefs(returnMessage: Uint8Array): ResultRef[] {
  return fieldBytes(returnMessage, 1).flatMap(resultRefs)
}

/** Result: ref_deprecated = 1, refs_deprecated = 2 { refs = 1 }, ref = 3, refs = 4 { refs = 1 }. */
function resultRefs(result: Uint8Array): ResultRef[] {
  const refs: ResultRef[] = []
  for (const field of wireFields(result)) {
    if (field.bytes === undefined) continue
    if (field.number === 1)
      refs.push({ id: Buffer.from(field.bytes).toString(), definition: undefined })
    if (field.number === 2) {
      for (const pair of fieldBytes(field.bytes, 1)) {
        refs.push({ id: fieldText(pair, 2), definition: undefined })
      }
    }
    if (field.number === 3) refs.push(refOf(field.bytes))
    if (field.number === 4) {
      for (const pair of fieldBytes(field.bytes, 1)) refs.push(...fieldBytes(pair, 2).map(refOf))
    }
  }
  return refs.filter((ref) => ref.id !== '')
}

function refOf(ref: Uint8Array): ResultRef {
  return { id: fieldText(ref, 1), definition: fieldBytes(ref, 2).at(-1) }
}

/**
 * A bridge request with reference ids exchanged. The ids are random and all of one length (BuildKit's
 * identity.NewID), so they can be exchanged wherever they stand.
 */
export function withRefIds(message: Uint8Array, ids: ReadonlyMap<string, string>): Buffer {
  const edited = Buffer.from(message)
  for (const [from, to] of ids) {
    if (from.length !== to.length) continue
    for (let at = edited.indexOf(from); at >= 0; at = edited.indexOf(from, at + to.length)) {
      edited.write(to, at, 'latin1')
    }
  }
  return edited
}
