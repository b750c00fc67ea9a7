/**
 * The life of a build:
 *
 *   opened ──place──▶ placed (a lease on a node per platform) ──finish──▶ finished
 *      │                 │                                                   ▲
 *      └── certificate ──┴── no node holds a lease for it any more ── lost ──┘ (the client's word comes late)
 *
 * Nodes report solves at any time, also after the end and about builds that began while the coordinator was
 * away.
 */
export { endLostBuilds, type LostBuildWatch } from './end-lost-builds.ts'
export { findBuild } from './find-build.ts'
export { finishBuild } from './finish-build.ts'
export { openBuild } from './open-build.ts'
export { createOutlook, type Outlook } from './outlook.ts'
export { endSilentCaches, noteNodeLife } from './pending-caches.ts'
export { placeBuild } from './place-build.ts'
export { priceBuild } from './price-build.ts'
export { createReportDesk, type ReportDesk } from './report-desk.ts'
export { toBuild } from './to-build.ts'
