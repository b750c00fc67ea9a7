/**
 * What a client may ask of the BuildKit that it shares with the other builds of its scope. Promises: a
 * client sees, changes and uses only its own builds, sessions and records; what it may not do is refused
 * with the remedy; and of what passes, everything that is not named here stays as it was written.
 */
export { narrowBridgeCall } from './bridge-requests.ts'
export { checkContentRead, serveContentRead } from './content.ts'
export { checkHistoryUpdate, serveHistory } from './history.ts'
export { type CallRule, knownMethods, type NarrowedCall, ruleOf } from './methods.ts'
export { type Narrowing, requireSession } from './narrowing.ts'
export { type OwnRegistry, ownRegistry } from './own-registry.ts'
export { createOwners, type Owner, type Owners } from './owners.ts'
export { narrowControlSolve } from './solve-requests.ts'
