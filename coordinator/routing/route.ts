import { HearthError } from '../../core/errors.ts'
import type { Candidate, RouteDecision, RouteRequest } from './index.ts'
import { normalPlatform } from './platform.ts'

/** What a build gets that names no platform, where there are nodes of several. */
const usualPlatform = 'linux/amd64'

export function route(nodes: readonly Candidate[], request: RouteRequest): RouteDecision {
  const platforms = [...new Set(nodes.map(({ platform }) => platform))].sort()
  const none = (reason: Extract<RouteDecision, { type: 'none' }>['reason']) =>
    ({ type: 'none', reason, platforms }) as const
  const platform = wantedPlatform(platforms, request)
  if (nodes.length === 0) return none('no nodes')
  const native = nodes.filter((node) => node.platform === platform)
  if (native.length === 0) return none('platform unknown')
  const online = native.filter((node) => node.online)
  if (online.length === 0) return none('all offline')
  const open = online.filter((node) => !node.load.draining)
  const ranked = open
    .toSorted((a, b) => compare(a, b, request))
    .map((node) => ({ nodeId: node.id, reason: reasonFor(node, open.length, request) }))
  const [chosen, ...runnersUp] = ranked
  return chosen === undefined ? none('all draining') : { type: 'chosen', ...chosen, runnersUp }
}

/** The message for whoever asked for the build. */
export function explainNone(
  decision: Extract<RouteDecision, { type: 'none' }>,
  platform: string | undefined,
): HearthError {
  const wanted = platform ?? 'the build'
  switch (decision.reason) {
    case 'no nodes':
      return new HearthError('unavailable', 'this coordinator has no nodes yet', {
        hint: 'start one with "hearth node --join …"',
      })
    case 'platform unknown':
      return new HearthError('invalid-input', `no node builds ${wanted} natively`, {
        hint: `the nodes build ${decision.platforms.join(', ')}`,
      })
    case 'all offline':
      return new HearthError('unavailable', `every node for ${wanted} is offline`, {
        hint: '"hearth nodes" shows when each was last seen',
      })
    case 'all draining':
      return new HearthError('unavailable', `every node for ${wanted} is about to stop`, {
        hint: 'try again when "hearth nodes" shows one that is not draining',
      })
  }
}

/**
 * Without a platform the build gets one and the same, whichever nodes are well: an image must not change
 * its architecture because a machine is away.
 */
function wantedPlatform(known: readonly string[], request: RouteRequest): string | undefined {
  if (request.platform !== undefined) return normalPlatform(request.platform)
  return known.includes(usualPlatform) ? usualPlatform : known[0]
}

function compare(a: Candidate, b: Candidate, request: RouteRequest): number {
  const isLast = (node: Candidate) => (node.id === request.lastNodeId ? 0 : 1)
  return (
    waiting(a) - waiting(b) ||
    isLast(a) - isLast(b) ||
    occupied(a) - occupied(b) ||
    (a.id < b.id ? -1 : 1)
  )
}

/** Builds ahead of a new one, by slot: 0 when there is a free slot. */
function waiting({ load }: Candidate): number {
  const ahead = load.slotsUsed + load.queued + 1 - load.slots
  return Math.max(0, ahead) / Math.max(1, load.slots)
}

function occupied({ load }: Candidate): number {
  return (load.slotsUsed + load.queued) / Math.max(1, load.slots)
}

function reasonFor(node: Candidate, choices: number, request: RouteRequest): string {
  const { slots, slotsUsed, queued } = node.load
  const platform = request.platform ?? node.platform
  if (choices === 1) return `the only node for ${platform}`
  const state =
    waiting(node) === 0
      ? `${slots - slotsUsed} of ${slots} slots free`
      : `${queued} queued for ${slots} slots`
  return node.id === request.lastNodeId ? `${state}; built this project last` : state
}
