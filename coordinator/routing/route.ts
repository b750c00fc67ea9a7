import { HearthError } from '../../core/errors.ts'
import { estimateWork } from './forecast.ts'
import type { Candidate, Estimate, RouteDecision, RouteRequest } from './index.ts'
import { normalPlatform } from './platform.ts'
import { queueTime } from './queue-time.ts'

/** What a build gets that names no platform, where there are nodes of several. */
const usualPlatform = 'linux/amd64'

/** What a build takes of which nothing is known. */
const usualBuildMs = 30_000

/** Estimates closer than this are alike: no reason to leave a node that is warm in ways we do not see. */
const alikeMs = 250

export function route(nodes: readonly Candidate[], request: RouteRequest): RouteDecision {
  const able = findAble(nodes, request.platform)
  if (able.type === 'none') return able
  const ranked = able.nodes
    .map((node) => ({ node, estimate: estimateFor(node, request) }))
    .toSorted((a, b) => compare(a, b, request))
    .map(({ node, estimate }) => ({
      nodeId: node.id,
      reason: reasonFor(node, estimate, able.nodes.length, request),
      estimate,
    }))
  const [chosen, ...runnersUp] = ranked
  if (chosen === undefined) throw new RangeError('nobody is able')
  return { type: 'chosen', ...chosen, runnersUp }
}

/** Whether `route` would choose one of them, without pricing any. */
export function canRoute(nodes: readonly Candidate[], platform: string | undefined): boolean {
  const wanted = wantedPlatform(platform, () => nodes.map((node) => node.platform))
  return nodes.some((node) => node.platform === wanted && isOpen(node))
}

/** Those that may get the build: one at least. */
function findAble(
  nodes: readonly Candidate[],
  wanted: string | undefined,
): Extract<RouteDecision, { type: 'none' }> | { type: 'able'; nodes: readonly Candidate[] } {
  const platforms = () => [...new Set(nodes.map(({ platform }) => platform))].sort()
  const none = (reason: Extract<RouteDecision, { type: 'none' }>['reason']) =>
    ({ type: 'none', reason, platforms: platforms() }) as const
  const platform = wantedPlatform(wanted, platforms)
  const open = nodes.filter((node) => node.platform === platform && isOpen(node))
  if (open.length > 0) return { type: 'able', nodes: open }
  if (nodes.length === 0) return none('no nodes')
  const native = nodes.filter((node) => node.platform === platform)
  if (native.length === 0) return none('platform unknown')
  return none(native.some(({ online }) => online) ? 'all draining' : 'all offline')
}

function isOpen({ online, load }: Candidate): boolean {
  return online && !load.draining
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
function wantedPlatform(
  wanted: string | undefined,
  known: () => readonly string[],
): string | undefined {
  if (wanted !== undefined) return normalPlatform(wanted)
  const platforms = known()
  return platforms.includes(usualPlatform) ? usualPlatform : platforms.toSorted()[0]
}

interface Priced {
  readonly node: Candidate
  readonly estimate: Estimate
}

function estimateFor(node: Candidate, { forecast }: RouteRequest): Estimate {
  const { slots, slotsUsed, queued } = node.load
  const expected = node.remainingMs ?? []
  const remainingMs = [...expected, ...unknownBuilds(slots, slotsUsed + queued - expected.length)]
  const queueMs = queueTime(slots, remainingMs)
  if (forecast === undefined) return { queueMs, endMs: queueMs }
  const work = estimateWork(forecast.steps, forecast.warmth(node.id))
  // What is missing is fetched while the build waits for its slot.
  const waitMs = Math.max(queueMs, work.moveMs)
  const { aroundMs: usualMs = 0, aroundReusedMs = usualMs } = forecast
  const aroundMs = work.runMs === 0 ? aroundReusedMs : usualMs
  const endMs = waitMs + work.unpackMs + work.runMs + aroundMs
  return { ...work, queueMs, aroundMs, endMs }
}

/** Builds that somebody else has placed there: those that run are at any point of their way. */
function unknownBuilds(slots: number, count: number): number[] {
  return Array.from({ length: Math.max(0, count) }, (_, index) =>
    index < slots ? (usualBuildMs * (index + 1)) / (slots + 1) : usualBuildMs,
  )
}

function compare(a: Priced, b: Priced, request: RouteRequest): number {
  const isLast = ({ node }: Priced) => (node.id === request.lastNodeId ? 0 : 1)
  const lacksRoom = ({ node }: Priced) => (node.load.diskLow === true ? 1 : 0)
  const isSilent = ({ node }: Priced) => (node.isSilent === true ? 1 : 0)
  return (
    // Its room may come back, or its voice, so such a node still goes before none.
    isSilent(a) - isSilent(b) ||
    lacksRoom(a) - lacksRoom(b) ||
    Math.floor(a.estimate.endMs / alikeMs) - Math.floor(b.estimate.endMs / alikeMs) ||
    isLast(a) - isLast(b) ||
    occupied(a.node) - occupied(b.node) ||
    a.estimate.endMs - b.estimate.endMs ||
    (a.node.id < b.node.id ? -1 : 1)
  )
}

function occupied({ load }: Candidate): number {
  return (load.slotsUsed + load.queued) / Math.max(1, load.slots)
}

function reasonFor(
  node: Candidate,
  estimate: Estimate,
  choices: number,
  request: RouteRequest,
): string {
  const { slots, slotsUsed, queued } = node.load
  const platform = request.platform ?? node.platform
  if (choices === 1) return `the only node for ${platform}`
  const queue =
    estimate.queueMs === 0
      ? `${slots - slotsUsed} of ${slots} slots free`
      : `${queued} queued for ${slots} slots`
  const parts = [queue]
  if (estimate.stepsTotal !== undefined) {
    parts.unshift(
      `${seconds(estimate.endMs)}: reuses ${estimate.stepsReused} of ${estimate.stepsTotal} steps`,
    )
    if (estimate.bytesMoved) parts.push(`${Math.ceil(estimate.bytesMoved / 1e6)} MB to fetch`)
  }
  if (node.id === request.lastNodeId) parts.push('built this project last')
  if (node.load.diskLow === true) parts.push('short of disk space')
  if (node.isSilent === true) parts.push('not heard of lately')
  return parts.join('; ')
}

function seconds(milliseconds: number): string {
  return `${(milliseconds / 1000).toFixed(1)} s`
}
