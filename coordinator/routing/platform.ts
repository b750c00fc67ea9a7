/** Platforms as people write them: https://github.com/containerd/platforms (normalizeArch). */
import { HearthError } from '../../core/errors.ts'

const pattern = /^[a-z0-9]{1,20}\/[a-z0-9_]{1,20}(?:\/[a-z0-9.]{1,20})?$/

const architectureAliases: Record<string, string> = {
  x86_64: 'amd64',
  'x86-64': 'amd64',
  aarch64: 'arm64',
  i386: '386',
}

/**
 * `os/arch` of a platform, without the variant: amd64/v3 or arm64/v8 are built where amd64 or arm64 is
 * native. 32-bit arm keeps its variant, because what runs v7 need not be what builds v6.
 * @throws HearthError `invalid-input`
 */
export function normalPlatform(platform: string): string {
  const lower = platform.toLowerCase()
  if (!pattern.test(lower)) {
    throw new HearthError('invalid-input', `"${platform.slice(0, 60)}" is no platform`, {
      hint: 'write it as os/arch, for example linux/amd64',
    })
  }
  const [system = '', architecture = '', variant] = lower.split('/')
  const known = architectureAliases[architecture] ?? architecture
  return known === 'arm' ? `${system}/arm/${variant ?? 'v7'}` : `${system}/${known}`
}
