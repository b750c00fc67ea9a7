import type { BuildSite } from './site.ts'
import { saveStandby } from './standby.ts'

/** Keeps what a placed build got for the time that the coordinator may be away. */
export async function keepStandby(
  env: NodeJS.ProcessEnv,
  site: BuildSite,
  key: { coordinator: string; project: string },
): Promise<void> {
  if (site.type !== 'placed' || site.standby.length === 0) return
  try {
    await saveStandby(env, key, { privateKeyPem: site.privateKeyPem, endpoints: site.standby })
  } catch {
    // Nowhere to keep it: the next build without a coordinator has one way out less.
  }
}
