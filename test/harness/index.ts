/**
 * What tests and measurements share: real parts, started for one use and gone afterwards. Every starter
 * gives an AsyncDisposable, takes free ports and folders of its own, and its processes die with the one that
 * started them, so that any number of runs go on side by side.
 */
export { type BaseImage, busyboxImage, goImage } from './base-images.ts'
export { type Buildkitd, startBuildkitd } from './buildkitd.ts'
export { type BuildxClient, createBuildxClient } from './buildx.ts'
export { type ClaimedDaemon, type Claims, claimsFolder, claimsOf } from './claims.ts'
export { type CommandResult, runTimed } from './commands.ts'
export { type Hearth, startHearth } from './hearth.ts'
export type { BuildInfo, HearthBuild, HearthClient } from './hearth-client.ts'
export {
  type ListedNode,
  type MeshNode,
  type MeshOptions,
  type MeshPart,
  startMesh,
  type TestMesh,
} from './mesh.ts'
export { freePort } from './ports.ts'
export { type ManagedProcess, startProcess } from './processes.ts'
export { type FetchedImage, fetchImage, pushBlob, pushImage } from './registry-client.ts'
export { type S3Server, startS3 } from './s3.ts'
export { createTemporaryFolder, type TemporaryFolder } from './temporary-folder.ts'
export { startUpstreamRegistry, type UpstreamRegistry } from './upstream-registry.ts'
export {
  createSmallWorkspace,
  createWorkspace,
  prepareGoService,
  type Workspace,
} from './workspace.ts'
