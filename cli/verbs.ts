/** All verbs: what they are for, and how to load one without loading the others. */
import type { Verb } from './terminal.ts'

export interface VerbEntry {
  readonly usage: string
  readonly summary: string
  load(): Promise<{ verb: Verb }>
}

export const verbs: Readonly<Record<string, VerbEntry>> = {
  up: {
    usage: 'up',
    summary: 'start a coordinator and one builder node on this machine',
    load: () => import('./commands/up.ts'),
  },
  down: {
    usage: 'down',
    summary: 'stop what "hearth up" started',
    load: () => import('./commands/down.ts'),
  },
  build: {
    usage: 'build [FLAGS] PATH|URL|-',
    summary: 'build an image; takes any flag of "docker buildx build"',
    load: () => import('./commands/build.ts'),
  },
  bake: {
    usage: 'bake [FLAGS] [TARGET…]',
    summary: 'build from a bake file; takes any flag of "docker buildx bake"',
    load: () => import('./commands/bake.ts'),
  },
  plan: {
    usage: 'plan [FLAGS] PATH|URL',
    summary: 'what a build would do, and what differs from the last plan',
    load: () => import('./commands/plan.ts'),
  },
  exec: {
    usage: 'exec [FLAGS] -- CMD…',
    summary: 'run any BuildKit client, with BUILDKIT_HOST pointing at a node',
    load: () => import('./commands/exec.ts'),
  },
  builds: {
    usage: 'builds',
    summary: 'what ran: how long it took and how much was reused',
    load: () => import('./commands/builds.ts'),
  },
  'build-info': {
    usage: 'build-info ID',
    summary: 'one build: its steps with Dockerfile lines, durations, bytes',
    load: () => import('./commands/build-info.ts'),
  },
  cache: {
    usage: 'cache usage|verify|reset',
    summary: 'what the cache holds, whether it is sound; forget it',
    load: () => import('./commands/cache.ts'),
  },
  mounts: {
    usage: 'mounts [list|reset ID]',
    summary: 'what steps have gathered in cache mounts; begin one anew',
    load: () => import('./commands/mounts.ts'),
  },
  nodes: {
    usage: 'nodes',
    summary: 'the builder nodes and their load',
    load: () => import('./commands/nodes.ts'),
  },
  projects: {
    usage: 'projects list|create',
    summary: 'the projects and their cache policies',
    load: () => import('./commands/projects.ts'),
  },
  tokens: {
    usage: 'tokens create|revoke',
    summary: 'credentials for people and CI',
    load: () => import('./commands/tokens.ts'),
  },
  login: {
    usage: 'login ADDRESS --token T --ca FILE',
    summary: 'remember a coordinator on another machine',
    load: () => import('./commands/login.ts'),
  },
  config: {
    usage: 'config',
    summary: 'the settings that hold, and where each comes from',
    load: () => import('./commands/config.ts'),
  },
  doctor: {
    usage: 'doctor [--fix]',
    summary: 'what is missing or wrong on this machine, and the fix',
    load: () => import('./commands/doctor.ts'),
  },
  coordinator: {
    usage: 'coordinator',
    summary: 'run a coordinator in the foreground',
    load: () => import('./commands/coordinator.ts'),
  },
  node: {
    usage: 'node --join ADDRESS --token T',
    summary: 'run a builder node in the foreground',
    load: () => import('./commands/node.ts'),
  },
  version: {
    usage: 'version',
    summary: 'the version of Hearth',
    load: () => import('./commands/version.ts'),
  },
}
