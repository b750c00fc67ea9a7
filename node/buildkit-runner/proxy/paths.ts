/** The gRPC methods that the proxy looks into. Everything else passes through untouched. */

export const controlSolve = '/moby.buildkit.v1.Control/Solve'
export const controlStatus = '/moby.buildkit.v1.Control/Status'
export const bridgeSolve = '/moby.buildkit.v1.frontend.LLBBridge/Solve'
export const bridgeEvaluate = '/moby.buildkit.v1.frontend.LLBBridge/Evaluate'
export const bridgeReturn = '/moby.buildkit.v1.frontend.LLBBridge/Return'

const bridgePrefix = '/moby.buildkit.v1.frontend.LLBBridge/'
const bridgeStream = '/moby.buildkit.v1.frontend.LLBBridge/ExecProcess'

/** A call to the bridge with one request and one reply. */
export function isBridgeCall(path: string): boolean {
  return path.startsWith(bridgePrefix) && path !== bridgeStream
}

/** Metadata that names the solve a bridge call belongs to (client/buildid in BuildKit). */
export const buildIdHeader = 'buildkit-controlapi-buildid'
