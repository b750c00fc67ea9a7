/**
 * What a client may not ask for in the operations that it hands over itself. Operations of other makers
 * (frontends inside BuildKit) are not seen here; for them sessions stay unguessable, and BuildKit's own
 * checks and the daemon's confinement count.
 */
import { HearthError } from '../../../../core/errors.ts'
import { fieldBytes, fieldText } from '../../../../proto/wire.ts'
import { type Narrowing, requireSession } from './narrowing.ts'

/** Attributes of sources that name a session. */
const sessionAttributes = new Set(['local.session', 'oci.session'])

/**
 * Definition: def = 1 (encoded Op: exec = 2, source = 3).
 * @throws HearthError `forbidden`
 */
export function checkDefinition(narrowing: Narrowing, definition: Uint8Array): void {
  for (const operation of fieldBytes(definition, 1)) {
    for (const exec of fieldBytes(operation, 2)) checkExec(exec)
    for (const source of fieldBytes(operation, 3)) checkSource(narrowing, source)
  }
}

/** ExecOp: meta = 1 { cgroup_parent = 10 }. Network, security mode and devices are for BuildKit to refuse. */
function checkExec(exec: Uint8Array): void {
  const groups = fieldBytes(exec, 1).flatMap((meta) => fieldBytes(meta, 10))
  if (groups.every((group) => group.length === 0)) return
  throw new HearthError('forbidden', 'a step names a control group (cgroup-parent)', {
    hint: 'leave it out: the node puts steps into the group of their build',
  })
}

/** SourceOp: attrs = 2 (map). */
export function checkSource(narrowing: Narrowing, source: Uint8Array): void {
  for (const attribute of fieldBytes(source, 2)) {
    if (!sessionAttributes.has(fieldText(attribute, 1))) continue
    requireSession(narrowing, fieldText(attribute, 2))
  }
}
