/** The flags of both verbs that run builder nodes. */
import type { Command } from 'commander'

export interface BuilderFlags {
  slots?: string
  buildMemory?: string
  buildCpus?: string
  reachLoopback?: string
  diskGb?: string
  diskFreeGb?: string
  s3?: string
  s3Endpoint?: string
  logLevel?: string
}

export function addBuilderFlags(command: Command): Command {
  return command
    .option('--slots <count>', 'builds at once (HEARTH_SLOTS; else as the machine allows)')
    .option(
      '--build-memory <size>',
      "what a build's steps may use, such as 6g (HEARTH_BUILD_MEMORY)",
    )
    .option('--build-cpus <cores>', "what a build's steps may use, such as 1.5 (HEARTH_BUILD_CPUS)")
    .option(
      '--reach-loopback <ports>',
      "ports of this machine's 127.0.0.1 that builds may use (HEARTH_REACH_LOOPBACK)",
    )
    .option('--disk-gb <size>', 'what its caches may take, in GB (HEARTH_DISK_GB)')
    .option(
      '--disk-free-gb <size>',
      'free disk below which no build begins, in GB (HEARTH_DISK_FREE_GB)',
    )
    .option('--s3 <url>', 'object store behind all nodes, s3://bucket/prefix (HEARTH_S3)')
    .option('--s3-endpoint <url>', 'where it is, for anything but AWS (HEARTH_S3_ENDPOINT)')
    .option('--log-level <level>', 'trace, debug, info, warn or error (HEARTH_LOG_LEVEL, info)')
}

/** What was typed, by the name of its setting. */
export function builderSettings(
  flags: BuilderFlags,
): Record<keyof BuilderFlags, string | undefined> {
  return {
    slots: flags.slots,
    buildMemory: flags.buildMemory,
    buildCpus: flags.buildCpus,
    reachLoopback: flags.reachLoopback,
    diskGb: flags.diskGb,
    diskFreeGb: flags.diskFreeGb,
    s3: flags.s3,
    s3Endpoint: flags.s3Endpoint,
    logLevel: flags.logLevel,
  }
}

/** What was typed, to be typed again. */
export function repeatedFlags(flags: BuilderFlags): string[] {
  const typed: Record<string, string | undefined> = {
    '--slots': flags.slots,
    '--build-memory': flags.buildMemory,
    '--build-cpus': flags.buildCpus,
    '--reach-loopback': flags.reachLoopback,
    '--disk-gb': flags.diskGb,
    '--disk-free-gb': flags.diskFreeGb,
    '--s3': flags.s3,
    '--s3-endpoint': flags.s3Endpoint,
    '--log-level': flags.logLevel,
  }
  return Object.entries(typed).flatMap(([flag, value]) =>
    value === undefined ? [] : [flag, value],
  )
}
