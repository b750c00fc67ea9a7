import { HearthError } from '../core/errors.ts'

const architectures: Partial<Record<NodeJS.Architecture, string>> = { x64: 'amd64', arm64: 'arm64' }

/**
 * The "os/arch" that this machine builds without emulation.
 * @throws HearthError `environment` on a machine that BuildKit nodes are not made for.
 */
export function nativePlatform(): string {
  const architecture = architectures[process.arch]
  if (process.platform === 'linux' && architecture !== undefined) return `linux/${architecture}`
  throw new HearthError('environment', `a node cannot run on ${process.platform}/${process.arch}`, {
    hint: 'run it on Linux, amd64 or arm64',
  })
}
