/**
 * A client's Control.Solve without what it may not ask for, and with the rule that keeps its sources off
 * the loopback registry. Field numbers are those of proto/buildkit; what is not named here stays.
 */
import { HearthError } from '../../../../core/errors.ts'
import { encodeField, fieldBytes, fieldText } from '../../../../proto/wire.ts'
import { checkDefinition } from './definitions.ts'
import { narrowOptions } from './frontend-options.ts'
import { type Narrowing, requireForeign, requireSession } from './narrowing.ts'

/** Clients choose 25 random characters; nothing needs more. */
const refCharactersMax = 128

/**
 * Control.Solve: ref = 1, definition = 2, exporter_attrs_deprecated = 4, session = 5, frontend_attrs = 7,
 * cache = 8, entitlements = 9, frontend_inputs = 10, source_policy = 12, exporters = 13,
 * source_policy_session = 15.
 * @returns the message for BuildKit. Its reference and its sessions belong to the owner from now on.
 * @throws HearthError `forbidden`, `invalid-input`
 */
export function narrowControlSolve(narrowing: Narrowing, message: Uint8Array): Buffer {
  for (const entitlement of fieldBytes(message, 9)) refuseEntitlement(entitlement)
  requireSession(narrowing, fieldText(message, 5))
  requireSession(narrowing, fieldText(message, 15))
  checkDefinitions(narrowing, message, { definition: 2, inputs: 10 })
  checkCache(narrowing, message)
  checkExporters(narrowing, message)
  const narrowed = narrowOptions(narrowing, message, 7)
  claimRef(narrowing, fieldText(message, 1))
  return Buffer.concat([narrowed, encodeField(12, narrowing.registry.denial)])
}

/** Both kinds of solves name a graph and, for each input of a frontend, another (a map). */
export function checkDefinitions(
  narrowing: Narrowing,
  message: Uint8Array,
  fields: { definition: number; inputs: number },
): void {
  for (const definition of fieldBytes(message, fields.definition)) {
    checkDefinition(narrowing, definition)
  }
  for (const input of fieldBytes(message, fields.inputs)) {
    for (const definition of fieldBytes(input, 2)) checkDefinition(narrowing, definition)
  }
}

function refuseEntitlement(entitlement: Uint8Array): never {
  const name = Buffer.from(entitlement).toString().slice(0, 100)
  throw new HearthError('forbidden', `builds are not given the entitlement ${name}`, {
    hint: `leave --allow ${name} out`,
  })
}

/** CacheOptions: export_ref = 1, import_refs = 2, exports = 4, imports = 5 (entries: attrs = 2, a map). */
function checkCache(narrowing: Narrowing, message: Uint8Array): void {
  for (const cache of fieldBytes(message, 8)) {
    requireForeign(narrowing, fieldText(cache, 1), '--cache-to')
    for (const ref of fieldBytes(cache, 2)) {
      requireForeign(narrowing, Buffer.from(ref).toString(), '--cache-from')
    }
    for (const entry of fieldBytes(cache, 4)) checkAttributes(narrowing, entry, 2, '--cache-to')
    for (const entry of fieldBytes(cache, 5)) checkAttributes(narrowing, entry, 2, '--cache-from')
  }
}

/** Exporter: attrs = 2 (map). */
function checkExporters(narrowing: Narrowing, message: Uint8Array): void {
  checkAttributes(narrowing, message, 4, '--output')
  for (const exporter of fieldBytes(message, 13)) {
    checkAttributes(narrowing, exporter, 2, '--output')
  }
}

export function checkAttributes(
  narrowing: Narrowing,
  message: Uint8Array,
  field: number,
  what: string,
): void {
  for (const attribute of fieldBytes(message, field)) {
    requireForeign(narrowing, fieldText(attribute, 2), what)
  }
}

function claimRef({ owner }: Narrowing, ref: string): void {
  if (ref === '' || ref.length > refCharactersMax) {
    throw new HearthError('invalid-input', 'a solve needs a reference of 1 to 128 characters')
  }
  if (owner.claimRef(ref)) return
  throw new HearthError('already-exists', 'another build has this reference', {
    hint: 'choose references at random',
  })
}
