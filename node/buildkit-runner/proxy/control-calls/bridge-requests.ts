/** A client's calls to the bridge of its own solve, without what it may not ask for. */
import { HearthError } from '../../../../core/errors.ts'
import { fieldBytes, fieldText } from '../../../../proto/wire.ts'
import { bridgeSolve } from '../paths.ts'
import { checkSource } from './definitions.ts'
import { narrowOptions } from './frontend-options.ts'
import { type Narrowing, requireSession } from './narrowing.ts'
import { checkAttributes, checkDefinitions } from './solve-requests.ts'

const resolveImageConfig = '/moby.buildkit.v1.frontend.LLBBridge/ResolveImageConfig'
const resolveSourceMeta = '/moby.buildkit.v1.frontend.LLBBridge/ResolveSourceMeta'
const newContainer = '/moby.buildkit.v1.frontend.LLBBridge/NewContainer'

/** @throws HearthError `forbidden`, `invalid-input` */
export function narrowBridgeCall(narrowing: Narrowing, path: string, message: Buffer): Buffer {
  if (path === bridgeSolve) return narrowBridgeSolve(narrowing, message)
  if (path === resolveImageConfig) requireSession(narrowing, fieldText(message, 6))
  if (path === resolveSourceMeta) {
    for (const source of fieldBytes(message, 1)) checkSource(narrowing, source)
  }
  if (path === newContainer) checkContainerId(fieldText(message, 1))
  return message
}

/**
 * BuildKit makes a folder of this name in its state, and a control group, before runc looks at it
 * (executor/runcexecutor in v0.34.2).
 */
function checkContainerId(id: string): void {
  if (/^[a-zA-Z0-9]{1,64}$/.test(id)) return
  throw new HearthError('invalid-input', 'the id of a container is letters and digits')
}

/** LLBBridge.Solve: definition = 1, frontend_opt = 3, cache_imports = 12 { attrs = 2 }, frontend_inputs = 13. */
function narrowBridgeSolve(narrowing: Narrowing, message: Buffer): Buffer {
  checkDefinitions(narrowing, message, { definition: 1, inputs: 13 })
  for (const entry of fieldBytes(message, 12)) {
    checkAttributes(narrowing, entry, 2, '--cache-from')
  }
  return narrowOptions(narrowing, message, 3)
}
