/**
 * Anonymous requests to a registry: a token where it wants one, redirects where it sends us, and limits on
 * everything. What comes back is an answer with a body to read, or why there is none.
 */
import http, { type IncomingMessage } from 'node:http'
import https from 'node:https'
import { describeError, HearthError, toHearthError } from '../../../../core/errors.ts'
import type { Logger } from '../../../../core/log.ts'
import { isPublicTarget, lookupPublic } from './address-rules.ts'
import { createShortMemory, parseChallenge, parseToken, tokenUrl } from './anonymous-tokens.ts'
import type { Upstream } from './upstreams.ts'

export type UpstreamOutcome =
  | { readonly type: 'answer'; readonly response: IncomingMessage }
  /** It does not give this to anybody, or has no such thing: BuildKit may have a credential that we lack. */
  | { readonly type: 'not for us'; readonly reason: 'denied' | 'absent' }
  /** Rate limit, failure, or nobody there. */
  | { readonly type: 'failed'; readonly reason: string }

export interface UpstreamClient extends Disposable {
  /** The body of an answer must be read or destroyed. */
  ask(upstream: Upstream, request: UpstreamRequest): Promise<UpstreamOutcome>
}

export interface UpstreamRequest {
  readonly method: 'GET' | 'HEAD'
  /** Repository without the host; Docker's short names are written out by BuildKit. */
  readonly name: string
  /** Below the repository: `manifests/latest`, `blobs/sha256:…`. */
  readonly path: string
  readonly headers?: Record<string, string>
  readonly signal: AbortSignal
}

const redirectsMax = 5
const tokenBytesMax = 65_536
/** A registry that is not there is left alone for so long: every pull would wait for it. */
const restMs = 30_000
/** So is a repository that is not public. */
const deniedMs = 60_000

export function createUpstreamClient(
  deps: { log: Logger },
  options: { answerMs: number; stallMs: number },
): UpstreamClient {
  const agentOptions = { keepAlive: true, maxSockets: 64, timeout: options.stallMs }
  // The named registries may be wherever their names lead; TLS, or the loopback, says that it is them.
  const named = {
    http: new http.Agent(agentOptions),
    https: new https.Agent(agentOptions),
  }
  const elsewhere = new https.Agent({ ...agentOptions, lookup: lookupPublic })
  const tokens = createShortMemory<string>({ entriesMax: 1000 })
  const denied = createShortMemory<true>({ entriesMax: 10_000 })
  const resting = createShortMemory<string>({ entriesMax: 100 })

  function send(
    upstream: Upstream,
    url: URL,
    request: { method: string; headers: Record<string, string>; signal: AbortSignal },
  ): Promise<IncomingMessage> {
    const isNamed = url.origin === upstream.origin
    if (!isNamed && !isPublicTarget(url)) {
      throw new HearthError(
        'forbidden',
        `${upstream.host} leads to ${url.host}, which is not public`,
      )
    }
    const isPlain = url.protocol === 'http:'
    const agent = isNamed ? (isPlain ? named.http : named.https) : elsewhere
    return new Promise((resolve, reject) => {
      const late = new HearthError('deadline', `${url.host} does not answer`)
      const sending = (isPlain ? http : https).request(url, { ...request, agent })
      const timer = setTimeout(() => sending.destroy(late), options.answerMs)
      sending.on('timeout', () => sending.destroy(late))
      sending.once('response', (response) => {
        clearTimeout(timer)
        resolve(response)
      })
      sending.once('error', (error) => {
        clearTimeout(timer)
        reject(error)
      })
      sending.end()
    })
  }

  /** Follows redirects; a token goes to the registry alone. */
  async function follow(
    upstream: Upstream,
    request: UpstreamRequest,
    token: string | undefined,
  ): Promise<IncomingMessage> {
    let url = new URL(`/v2/${request.name}/${request.path}`, upstream.origin)
    for (let redirects = 0; redirects <= redirectsMax; redirects += 1) {
      const isNamed = url.origin === upstream.origin
      const headers = {
        'user-agent': 'hearth',
        ...request.headers,
        ...(token === undefined || !isNamed ? {} : { authorization: `Bearer ${token}` }),
      }
      const { method, signal } = request
      const response = await send(upstream, url, { method, headers, signal })
      const { location } = response.headers
      const status = response.statusCode ?? 0
      if (![301, 302, 303, 307, 308].includes(status) || location === undefined) return response
      response.destroy()
      const next = URL.parse(location, url.href)
      if (next === null) throw new HearthError('unavailable', 'a redirect to nowhere')
      url = next
    }
    throw new HearthError('unavailable', `more than ${redirectsMax} redirects`)
  }

  /** Undefined when it gives none to strangers. */
  async function fetchToken(
    upstream: Upstream,
    request: UpstreamRequest,
    challenge: IncomingMessage,
  ): Promise<string | undefined> {
    const bearer = parseChallenge(challenge.headers['www-authenticate'])
    if (bearer === undefined) return undefined
    const { signal } = request
    const url = tokenUrl(bearer, request.name)
    const headers = { 'user-agent': 'hearth', accept: 'application/json' }
    const response = await send(upstream, url, { method: 'GET', headers, signal })
    if (response.statusCode !== 200) {
      response.destroy()
      return undefined
    }
    const found = parseToken((await readAll(response, tokenBytesMax))?.toString() ?? '')
    if (found !== undefined)
      tokens.set(keyOf(upstream, request), found.token, found.lifetimeMs * 0.9)
    return found?.token
  }

  async function askOnce(upstream: Upstream, request: UpstreamRequest): Promise<UpstreamOutcome> {
    const key = keyOf(upstream, request)
    let response = await follow(upstream, request, tokens.get(key))
    if (response.statusCode === 401) {
      response.destroy()
      tokens.delete(key)
      const token = await fetchToken(upstream, request, response)
      if (token !== undefined) response = await follow(upstream, request, token)
    }
    const status = response.statusCode ?? 0
    if (status === 200 || status === 206) return { type: 'answer', response }
    response.destroy()
    if (status === 401 || status === 403) {
      denied.set(key, true, deniedMs)
      return { type: 'not for us', reason: 'denied' }
    }
    if (status === 404) return { type: 'not for us', reason: 'absent' }
    return { type: 'failed', reason: `${upstream.host} answers ${status}` }
  }

  return {
    async ask(upstream, request) {
      const rests = resting.get(upstream.host)
      if (rests !== undefined) return { type: 'failed', reason: rests }
      if (denied.get(keyOf(upstream, request)) === true) {
        return { type: 'not for us', reason: 'denied' }
      }
      try {
        return await askOnce(upstream, request)
      } catch (error) {
        const reason = describeError(error)
        if (!request.signal.aborted) {
          // Where one image leads says nothing about the others.
          const isAway = toHearthError(error).code !== 'forbidden'
          if (isAway) resting.set(upstream.host, reason, restMs)
          deps.log.info({ upstream: upstream.host, reason }, 'a registry could not be mirrored')
        }
        return { type: 'failed', reason }
      }
    },
    [Symbol.dispose]() {
      for (const agent of [named.http, named.https, elsewhere]) agent.destroy()
    },
  }
}

function keyOf(upstream: Upstream, request: UpstreamRequest): string {
  return `${upstream.host} ${request.name}`
}

/** Undefined when it is longer than that. */
export async function readAll(
  response: IncomingMessage,
  bytesMax: number,
): Promise<Buffer | undefined> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length
    // Leaving the loop destroys the response.
    if (size > bytesMax) return undefined
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}
