/** What the coordinator keeps and waits for, at most. */

const dayMs = 24 * 60 * 60_000

/** Builds in the history; the oldest go first. */
export const historyBuildsMax = 10_000
export const historyMs = 90 * dayMs

/** Solves of one build; a bake has one per target, so hundreds are no mistake. */
export const solvesPerBuildMax = 1_000

/** How long the duration of a step that no longer runs is worth keeping. */
export const stepDurationMs = 90 * dayMs

/** A node that has not been seen for so long is forgotten; it comes back with a join token. */
export const nodeForgottenMs = 30 * dayMs

/** Renewed at a third, so that a node may be away for more than four days without a new join token. */
export const nodeCertificateMs = 7 * dayMs
export const coordinatorCertificateMs = 90 * dayMs
export const authorityMs = 3_650 * dayMs

/** Clocks of clients and nodes may be behind by this much. */
export const clockSkewMs = 5 * 60_000

export const joinTokenMs = 60 * 60_000

/** Nodes call this often; one that has missed three calls is offline. */
export const heartbeatMs = 5_000
export const heartbeatsMissedMax = 3

/** What FinishBuild gives the nodes to deliver their reports. */
export const reportsWaitMs = 2_000

/** Measuring a node's caches walks BuildKit's state. */
export const usageMs = 60_000

/** Reading back a node's whole cache, or emptying it. */
export const verifyMs = 6 * 60 * 60_000
export const resetMs = 10 * 60_000

export const commandCharactersMax = 2_000
export const descriptionCharactersMax = 200
export const platformsMax = 16
export const buildsListedMax = 1_000
