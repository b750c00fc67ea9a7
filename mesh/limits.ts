/** Every limit of the mesh, with its reason. Sizes in bytes, times in ms. */
import { kib, mib } from '../core/limits.ts'

const minuteMs = 60_000
const hourMs = 60 * minuteMs

/** Long enough to outlive an outage of the coordinator, short enough that a machine sold is soon a stranger. */
export const membershipMs = 24 * hourMs
/** Renewed after this part of its lifetime, so that two renewals may fail. */
export const membershipRenewalPart = 1 / 3
/**
 * Clocks may be an hour apart, each in its own direction from the coordinator's: a membership counts from this
 * much before it was issued until this much after it expires, by the clock of whoever checks it.
 */
export const clockSlackMs = 2 * hourMs
/** With a few addresses one takes 400 bytes. */
export const membershipBytesMax = 4 * kib

/** Peers that have not shown a membership yet. */
export const strangersMax = 64
/** How long a stranger may stay without showing one. */
export const helloMs = 1_000
/** For another's handshake, on a machine that is busy; what takes longer gives its place free. */
export const upgradeMs = 10_000
/** Our own side of a dial, its hello included. */
export const dialMs = 15_000
/** For each address of a peer. */
export const addressDialMs = 10_000
/** Reads of the clock that find expired members. */
export const sweepMs = 15_000

/** Longest wait between two tries to reach a peer. */
export const redialMsMax = 30_000
/** What the higher peer id leaves the lower for its dial. */
export const courtesyMs = 2_000
/**
 * Dials under way at once. A handshake takes 12 ms of a core: fifty nodes of one machine that each start many
 * have none finish before its limit.
 */
export const dialsMax = 3

/** Hubs hold a thousand peers. */
export const connectionsMax = 1_200
/** Handshakes of others under way: fifty nodes may start together. */
export const pendingConnectionsMax = 256
/** Per second and address: many nodes share one behind NAT, and in tests all do. */
export const inboundPerSecondMax = 500

/** Largest message of a framed stream. */
export const frameBytesMax = 320 * kib
/** What a framed stream holds for a slow reader before it stops the sender. */
export const readAheadBytes = 512 * kib
/** yamux starts with windows of 256 KiB; larger ones than this starve the ping that watches the connection. */
export const streamWindowBytesMax = 1 * mib
/** A write that gets nothing off in this time has lost its peer. */
export const writeStallMs = 20_000

/** How long news may wait for more before they go out. */
export const batchDelayMs = 200
/** Between two batches when losses cannot wait. */
export const batchGapMs = 10
export const batchBytesMax = 256 * kib
/** What is kept of the own log for peers that fall behind; who needs more gets a snapshot. */
export const logBytesMax = 32 * mib
export const logBatchesMax = 10_000
/** Batches on their way to one peer, not yet acknowledged. */
export const unackedBatchesMax = 8
/** Without a new acknowledgement for this long a peer's stream is given up. */
export const ackStallMs = 30_000
/** Snapshots on their way out at once. */
export const snapshotsMax = 4
/** How far in the future a peer's memory of our epoch may lie. */
export const epochAheadMsMax = 48 * hourMs
/** Between two new epochs that peers ask for. */
export const epochGapMs = minuteMs

/** Members that are all connected to each other, above which news go over hubs. */
export const fullMeshMax = 100
/** Hubs are chosen above this part of it; in between news go both ways, since not all count the same members. */
export const fullMeshPart = 0.8
/** Hubs that there are stay until the mesh is no larger than this part of it. */
export const hublessPart = 0.6
/** Hubs that a node is connected to: it hears from one, and the other takes over at once. */
export const hubsPerPeer = 2
/** How long a hub may be unreachable before another is chosen in its stead. */
export const hubPatienceMs = 3_000
/** A hub that refuses is left alone for this long. */
export const hubRefusedMs = 30_000
/** What a hub gathers for a peer before it sends again. */
export const relayGapMs = 1_000
/** News that a hub keeps in memory for peers that come or fall behind. */
export const relayBytesMax = 64 * mib
export const relayNewsMax = 50_000
/** How long the peers of a lost hub count as present, until another has told of them. */
export const presenceGraceMs = 15_000
/** Logs of others that are asked for at once, where relayed news are not enough. */
export const pullsMax = 4
/** A publisher that says nothing for this long is not asked any longer. */
export const pullStallMs = 30_000

/** One commit of the index, so that the event loop stays free. */
export const sliceMs = 8
/** Address space, not memory: LMDB maps the file whole. */
export const indexMapBytes = 16 * 1024 * mib
/** From there on a digest's holders are a bitset (measured: the smaller form at 1,000 nodes). */
export const listHoldersMax = 61
/** Node numbers have 15 bits, the 16th says hot. */
export const nodeNumbersMax = 32_768

/** What one scope may have of fragments: what is older goes, of whoever has most there. */
export const fragmentsPerScopeMax = 400
/** Fragments of one scope that are remembered as forgotten, so that nobody brings them back. */
export const forgottenPerScopeMax = 400
/** Of one maker, in all scopes: a few hundred bytes each on disk. What is more is refused. */
export const fragmentsPerMakerMax = 50_000
/** A statement with its maker's membership. */
export const signedFragmentBytesMax = 6 * kib
/** Who has said nothing for this long when asked knows nothing more. */
export const fragmentAnswerMs = 1_000
/** What others told us is offered on after this long: usually its maker has told everybody itself by then. */
export const fragmentRelayMs = 1_500
/** Statements on their way to one peer; beyond that it gets the summary again instead. */
export const fragmentQueueMax = 256
/** Tries to reach the peers' streams again begin at this, and are never further apart than redials. */
export const fragmentRetryMs = 200
