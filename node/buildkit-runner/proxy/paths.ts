/** The gRPC methods by which builds go; control-calls/methods.ts has what becomes of each. */

export const controlSolve = '/moby.buildkit.v1.Control/Solve'
export const controlStatus = '/moby.buildkit.v1.Control/Status'
export const bridgeSolve = '/moby.buildkit.v1.frontend.LLBBridge/Solve'
export const bridgeEvaluate = '/moby.buildkit.v1.frontend.LLBBridge/Evaluate'
export const bridgeReturn = '/moby.buildkit.v1.frontend.LLBBridge/Return'

/** Metadata that names the solve a bridge call belongs to (client/buildid in BuildKit). */
export const buildIdHeader = 'buildkit-controlapi-buildid'

/** Metadata by which a client opens a session under an id of its choice (session/session.go in BuildKit). */
export const sessionIdHeader = 'x-docker-expose-session-uuid'
