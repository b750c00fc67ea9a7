/**
 * Tokens that registries give to anybody who asks for the right to pull
 * (https://distribution.github.io/distribution/spec/auth/token/). No credential is ever sent.
 */
import { z } from 'zod'

export interface BearerChallenge {
  readonly realm: URL
  readonly service: string | undefined
  readonly scope: string | undefined
}

/** The Bearer challenge of a 401, if it has one. */
export function parseChallenge(header: string | undefined): BearerChallenge | undefined {
  const match = /^\s*bearer\s+(.*)$/is.exec(header ?? '')
  if (match?.[1] === undefined) return undefined
  const parameters = new Map<string, string>()
  for (const [, name, quoted, plain] of match[1].matchAll(/(\w+)=(?:"([^"]*)"|([^\s,]+))/g)) {
    if (name !== undefined) parameters.set(name.toLowerCase(), quoted ?? plain ?? '')
  }
  const realm = URL.parse(parameters.get('realm') ?? '')
  if (realm === null) return undefined
  return { realm, service: parameters.get('service'), scope: parameters.get('scope') }
}

/** @param name the repository, for a challenge that names no scope. */
export function tokenUrl({ realm, service, scope }: BearerChallenge, name: string): URL {
  const url = new URL(realm)
  if (service !== undefined) url.searchParams.set('service', service)
  url.searchParams.set('scope', scope ?? `repository:${name}:pull`)
  return url
}

const answerShape = z
  .looseObject({
    token: z.string().max(65_536).optional(),
    access_token: z.string().max(65_536).optional(),
    expires_in: z.number().positive().optional(),
  })
  .transform(({ token, access_token, expires_in }) => ({
    token: token ?? access_token,
    // Without a word, a token holds for a minute.
    lifetimeMs: (expires_in ?? 60) * 1000,
  }))

export function parseToken(body: string): { token: string; lifetimeMs: number } | undefined {
  let parsed: unknown
  try {
    parsed = JSON.parse(body)
  } catch {
    return undefined
  }
  const found = answerShape.safeParse(parsed)
  // It becomes a header: what could end one is no token.
  if (!found.success || !/^[\x21-\x7e]+$/.test(found.data.token ?? '')) return undefined
  return { token: found.data.token ?? '', lifetimeMs: found.data.lifetimeMs }
}

/** Values that hold for a while, so many at most; the oldest go first. */
export function createShortMemory<T>(options: { entriesMax: number }) {
  const entries = new Map<string, { value: T; untilMs: number }>()
  return {
    get(key: string): T | undefined {
      const entry = entries.get(key)
      if (entry === undefined || entry.untilMs > performance.now()) return entry?.value
      entries.delete(key)
      return undefined
    },
    set(key: string, value: T, lifetimeMs: number): void {
      entries.delete(key)
      entries.set(key, { value, untilMs: performance.now() + lifetimeMs })
      const [oldest] = entries.keys()
      if (entries.size > options.entriesMax && oldest !== undefined) entries.delete(oldest)
    },
    delete(key: string): void {
      entries.delete(key)
    },
  }
}
