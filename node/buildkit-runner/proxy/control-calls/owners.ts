/**
 * Who among the clients of one daemon a solve or a session belongs to. BuildKit itself asks nobody: whoever
 * names a reference may watch it, and whoever names a session may use its secrets and its files.
 *
 * An owner is a build (all connections with its certificate) or, for clients without one, a certificate.
 * References and sessions belong to whoever names them first; clients choose them at random.
 */
import { EventEmitter, once } from 'node:events'
import type { SolveJob } from '../solve-job.ts'

export interface Owners {
  /** A connection of this owner has come. Disposal: it has gone. */
  enter(owner: string): Owner
}

export interface Owner extends Disposable {
  /** The owner's solves that are going on, by the reference that the client gave them. */
  readonly jobs: Map<string, SolveJob>
  /** @returns false when it is somebody else's, or the owner has too many. */
  claimRef(ref: string): boolean
  ownsRef(ref: string): boolean
  /**
   * Whether the owner has such a solve. A client's calls about a solve may overtake the solve, so one that
   * is not known yet is waited for, as BuildKit does.
   */
  awaitRef(ref: string, options: { signal: AbortSignal }): Promise<boolean>
  /** As `claimRef`. Of an id with prefixes ("name:id"), what BuildKit would look up counts. */
  claimSession(id: string): boolean
  /** Content that the history of the owner's solves names may be read. */
  allowContent(digest: string): void
  mayRead(digest: string): boolean
}

/** Far beyond what one build does: a bake of a thousand targets has a thousand references. */
const perOwnerMax = 10_000

/**
 * For a solve whose other calls came first. It may wait 3 s for its scope's record before it is anybody's, and on a
 * busy machine for more; the client would take a no here for the end of its build.
 */
const overtakingMs = 20_000

/** A client may ask for the history of a build later; standby certificates live as long. */
const rememberedMs = 24 * 60 * 60_000

interface Record {
  readonly jobs: Map<string, SolveJob>
  readonly refs: Set<string>
  readonly sessions: Set<string>
  readonly content: Set<string>
  readonly claims: EventEmitter
  connections: number
  leftAtMs: number
}

export function createOwners(now: () => number = Date.now): Owners {
  const records = new Map<string, Record>()
  const ownerOfRef = new Map<string, string>()
  const ownerOfSession = new Map<string, string>()

  function recordOf(owner: string): Record {
    let record = records.get(owner)
    if (record === undefined) {
      record = {
        jobs: new Map(),
        refs: new Set(),
        sessions: new Set(),
        content: new Set(),
        claims: new EventEmitter().setMaxListeners(0),
        connections: 0,
        leftAtMs: 0,
      }
      records.set(owner, record)
    }
    return record
  }

  function forgetOld(): void {
    for (const [owner, record] of records) {
      const isUsed = record.connections > 0 || record.jobs.size > 0
      if (isUsed || now() - record.leftAtMs < rememberedMs) continue
      for (const ref of record.refs) ownerOfRef.delete(ref)
      records.delete(owner)
    }
  }

  function leave(record: Record): void {
    record.connections -= 1
    record.leftAtMs = now()
    if (record.connections > 0) return
    // A session ends with its connection.
    for (const id of record.sessions) ownerOfSession.delete(id)
    record.sessions.clear()
  }

  /** @returns whether the name is the owner's now. */
  function claim(
    name: string,
    claimed: { by: string; all: Map<string, string>; own: Set<string> },
  ): boolean {
    const holder = claimed.all.get(name)
    if (holder !== undefined) return holder === claimed.by
    if (claimed.own.size >= perOwnerMax) return false
    claimed.all.set(name, claimed.by)
    claimed.own.add(name)
    return true
  }

  return {
    enter(owner) {
      forgetOld()
      const record = recordOf(owner)
      record.connections += 1
      let gone = false
      return {
        jobs: record.jobs,
        claimRef(ref) {
          const isOurs = claim(ref, { by: owner, all: ownerOfRef, own: record.refs })
          if (isOurs) record.claims.emit(eventOf(ref))
          return isOurs
        },
        ownsRef: (ref) => record.refs.has(ref),
        async awaitRef(ref, { signal }) {
          if (record.refs.has(ref)) return true
          // Somebody else's will never become ours.
          if (ownerOfRef.has(ref)) return false
          const limit = AbortSignal.any([signal, AbortSignal.timeout(overtakingMs)])
          await once(record.claims, eventOf(ref), { signal: limit }).catch(() => {})
          return record.refs.has(ref)
        },
        claimSession(id) {
          const name = id.slice(id.lastIndexOf(':') + 1)
          return claim(name, { by: owner, all: ownerOfSession, own: record.sessions })
        },
        allowContent(digest) {
          if (record.content.size < perOwnerMax) record.content.add(digest)
        },
        mayRead: (digest) => record.content.has(digest),
        [Symbol.dispose]() {
          if (!gone) leave(record)
          gone = true
        },
      }
    },
  }
}

/** A reference could be called "error", which an emitter takes to heart. */
function eventOf(ref: string): string {
  return `claimed ${ref}`
}
