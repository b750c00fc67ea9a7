/** Where things lie: the XDG base directories, and one place for root's daemons. */
import os from 'node:os'
import path from 'node:path'

export function isRoot(): boolean {
  return process.getuid?.() === 0
}

/** Default data folder of `hearth up`. */
export function defaultDataFolder(env: NodeJS.ProcessEnv): string {
  return isRoot()
    ? '/var/lib/hearth'
    : path.join(base(env, 'XDG_DATA_HOME', '.local/share'), 'hearth')
}

/** What one person configured on this machine. */
export function configFolder(env: NodeJS.ProcessEnv): string {
  return path.join(base(env, 'XDG_CONFIG_HOME', '.config'), 'hearth')
}

/** What Hearth remembers between builds of one person. */
export function stateFolder(env: NodeJS.ProcessEnv): string {
  return path.join(base(env, 'XDG_STATE_HOME', '.local/state'), 'hearth')
}

/** What can be lost at any time. */
export function cacheFolder(env: NodeJS.ProcessEnv): string {
  return path.join(base(env, 'XDG_CACHE_HOME', '.cache'), 'hearth')
}

/** The settings file of this machine (root) or person. */
export function settingsFile(env: NodeJS.ProcessEnv): string {
  if (env.HEARTH_CONFIG) return path.resolve(env.HEARTH_CONFIG)
  return isRoot() ? '/etc/hearth/config.json' : path.join(configFolder(env), 'config.json')
}

function base(env: NodeJS.ProcessEnv, variable: string, fallback: string): string {
  const named = env[variable]
  // The specification has relative paths ignored.
  if (named !== undefined && path.isAbsolute(named)) return named
  return path.join(env.HOME || os.homedir(), fallback)
}
