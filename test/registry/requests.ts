/**
 * Requests to a registry from a seed: first by the schema of the distribution spec's endpoints, then bent.
 * The same seed and number give the same conversation, but for names that the registry itself gives out.
 */

/** One connection: bytes to send, in pieces, and what is done in between and at the end. */
export interface Conversation {
  readonly pieces: readonly Buffer[]
  /** Ms before each piece but the first. */
  readonly pauseMs: number
  /** `wait`: read until the registry closes. `leave`: cut the connection after the last piece. */
  readonly end: 'wait' | 'leave'
  /** A single request, whole and well framed: it must be answered, an error with the body of the spec. */
  readonly isSound: boolean
  readonly method: string
}

/** What exists, for requests to name. */
export interface Known {
  readonly capabilities: readonly string[]
  readonly names: readonly string[]
  readonly blobs: readonly string[]
  readonly manifests: readonly string[]
  readonly tags: readonly string[]
  /** Changes as the registry opens uploads: "/v2/…". */
  readonly uploads: string[]
}

export type Random = () => number

/** Mulberry32: small, and the same everywhere. */
export function randomFrom(seed: number): Random {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

interface Request {
  method: string
  path: string
  query: [string, string][]
  headers: [string, string][]
  body: Buffer
}

export function makeConversation(random: Random, known: Known): Conversation {
  const pick = <T>(list: readonly T[]): T => {
    const one = list[Math.floor(random() * list.length)]
    if (one === undefined) throw new Error('nothing to pick from')
    return one
  }
  const chance = (probability: number): boolean => random() < probability
  const number = (below: number): number => Math.floor(random() * below)

  const oddities = [
    '',
    '.',
    '..',
    '%2e%2e',
    '%2f',
    '%00',
    '%zz',
    '%',
    '~',
    '*',
    'é',
    '%F0%9F%94%A5',
    '_',
    '-',
    'UPPER',
    'x'.repeat(128),
    'x'.repeat(129),
    'a/'.repeat(200),
    'blobs',
    'uploads',
    'manifests',
    'constructor',
    '__proto__',
    'sha256:',
    `sha256:${'0'.repeat(63)}`,
    `sha256:${'0'.repeat(64)}`,
    `sha256:${'G'.repeat(64)}`,
    `sha512:${'0'.repeat(128)}`,
    'a+b.c_d-e:=_-',
    '9999999999999999999999',
    '-1',
    '0',
    'null',
    '"\'<>\\',
  ]
  const mediaTypes = [
    'application/vnd.oci.image.manifest.v1+json',
    'application/vnd.oci.image.index.v1+json',
    'application/vnd.docker.distribution.manifest.v2+json',
    'application/json; charset=utf-8',
    'text/plain',
    '',
    ';',
  ]
  const ranges = [
    'bytes=0-',
    'bytes=0-0',
    'bytes=5-2',
    'bytes=-1',
    'bytes=-0',
    'bytes=999999999999999999-',
    'bytes=0-1,3-4',
    'bytes=-',
    'lines=1-2',
    'bytes=0-99999999999999999999',
  ]

  const digest = (): string => pick([...known.blobs, ...known.manifests, pick(oddities)])
  const bytes = (below: number): Buffer => Buffer.alloc(number(below), number(256))

  function manifestBody(): Buffer {
    const descriptor = () => ({ mediaType: pick(mediaTypes), digest: digest(), size: number(1000) })
    const value: Record<string, unknown> = {
      schemaVersion: 2,
      mediaType: pick(mediaTypes),
      config: descriptor(),
      layers: Array.from({ length: number(4) }, descriptor),
    }
    if (chance(0.3)) value.subject = descriptor()
    if (chance(0.3)) value.annotations = { [pick(oddities)]: pick(oddities) }
    if (chance(0.2)) value.manifests = Array.from({ length: number(4) }, descriptor)
    if (chance(0.3)) value.artifactType = pick(mediaTypes)
    // One field becomes something else entirely.
    const strange = [null, 7, [], {}, 'text', true, [[[]]], { digest: 5 }, Number.MAX_VALUE]
    if (chance(0.4)) value[pick(Object.keys(value))] = pick<unknown>(strange)
    const text = JSON.stringify(chance(0.1) ? pick<unknown>(strange) : value)
    return Buffer.from(chance(0.15) ? text.slice(0, number(text.length)) : text)
  }

  /** By the schema: what a client would send. */
  function sound(): Request {
    const base = `/v2/${pick(known.capabilities)}/${pick(known.names)}`
    const plain = { query: [], headers: [], body: Buffer.alloc(0) }
    const upload = known.uploads.length > 0 ? pick(known.uploads) : `${base}/blobs/uploads/none`
    const makers: (() => Request)[] = [
      () => ({ ...plain, method: 'GET', path: '/v2/' }),
      () => ({ ...plain, method: pick(['GET', 'HEAD']), path: `${base}/blobs/${digest()}` }),
      () => ({
        ...plain,
        method: 'GET',
        path: `${base}/blobs/${pick(known.blobs)}`,
        headers: [
          ['range', pick(ranges)],
          ['if-range', `"${digest()}"`],
        ],
      }),
      () => ({
        ...plain,
        method: pick(['GET', 'HEAD']),
        path: `${base}/manifests/${pick([...known.tags, ...known.manifests])}`,
        headers: [['if-none-match', pick(['*', `"${digest()}"`, 'W/"x", "y"'])]],
      }),
      () => ({
        ...plain,
        method: 'PUT',
        path: `${base}/manifests/${pick([...known.tags, digest()])}`,
        query: chance(0.3) ? [['tag', pick(known.tags)]] : [],
        headers: [['content-type', pick(mediaTypes)]],
        body: manifestBody(),
      }),
      () => ({
        ...plain,
        method: 'POST',
        path: `${base}/blobs/uploads/`,
        query: pick<[string, string][]>([
          [],
          [['digest', digest()]],
          [['mount', digest()]],
          [
            ['mount', digest()],
            ['from', `${pick(known.capabilities)}/${pick(known.names)}`],
          ],
          [['digest-algorithm', pick(['sha256', 'sha512'])]],
        ]),
        body: bytes(2000),
      }),
      () => ({
        ...plain,
        method: 'PATCH',
        path: upload,
        headers: chance(0.6) ? [['content-range', `${number(3000)}-${number(6000)}`]] : [],
        body: bytes(70_000),
      }),
      () => ({
        ...plain,
        method: 'PUT',
        path: upload,
        query: [['digest', digest()]],
        body: bytes(2000),
      }),
      () => ({ ...plain, method: pick(['GET', 'HEAD', 'DELETE']), path: upload }),
      () => ({
        ...plain,
        method: pick(['GET', 'HEAD']),
        path: `${base}/tags/list`,
        query: [
          ['n', pick(['0', '1', '5', '1000000', ...oddities])],
          ['last', pick([...known.tags, ...oddities])],
        ],
      }),
      () => ({
        ...plain,
        method: pick(['GET', 'HEAD']),
        path: `${base}/referrers/${digest()}`,
        query: chance(0.5) ? [['artifactType', pick([...mediaTypes, ...oddities])]] : [],
      }),
      () => ({
        ...plain,
        method: 'DELETE',
        // What others read stays, or soon there would be nothing left to ask for.
        path: `${base}/${pick(['manifests', 'blobs'])}/${pick([...known.tags, ...oddities])}`,
      }),
    ]
    return pick(makers)()
  }

  function bend(request: Request): void {
    const benders = [
      () => {
        request.method = pick(['GET', 'HEAD', 'PUT', 'POST', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE'])
      },
      () => {
        const parts = request.path.split('/')
        parts[number(parts.length)] = pick(oddities)
        request.path = parts.join('/')
      },
      () => {
        const at = number(request.path.length)
        request.path = request.path.slice(0, at) + pick(oddities) + request.path.slice(at)
      },
      () => {
        request.path = request.path.slice(0, number(request.path.length))
      },
      () => {
        const keys = ['n', 'last', 'digest', 'mount', 'from', 'tag', 'artifactType', pick(oddities)]
        request.query.push([pick(keys), pick(oddities)])
      },
      () => {
        const names = [
          'range',
          'content-range',
          'if-none-match',
          'if-range',
          'content-type',
          'accept',
        ]
        request.headers.push([pick(names), pick([...ranges, ...mediaTypes, '0-0', '5-1', '*'])])
      },
      () => {
        request.headers.push(['authorization', 'Basic Og=='])
      },
      () => {
        request.headers.push(['expect', '100-continue'])
      },
      () => {
        request.body = chance(0.5) ? bytes(200_000) : manifestBody()
      },
    ]
    pick(benders)()
  }

  function write(request: Request, isLast: boolean, isChunked: boolean): Buffer {
    const query = request.query.map(([key, value]) => `${key}=${encodeURIComponent(value)}`)
    const target = encodeTarget(request.path) + (query.length > 0 ? `?${query.join('&')}` : '')
    const lines = [`${request.method} ${target === '' ? '/' : target} HTTP/1.1`, 'host: registry']
    for (const [name, value] of request.headers) lines.push(`${name}: ${value}`)
    lines.push(isChunked ? 'transfer-encoding: chunked' : `content-length: ${request.body.length}`)
    if (isLast) lines.push('connection: close')
    const chunked = [Buffer.from(`${request.body.length.toString(16)}\r\n`), request.body]
    const body = isChunked
      ? [
          ...(request.body.length > 0 ? [...chunked, Buffer.from('\r\n')] : []),
          Buffer.from('0\r\n\r\n'),
        ]
      : [request.body]
    return Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`), ...body])
  }

  const requests = Array.from({ length: chance(0.1) ? 2 + number(4) : 1 }, sound)
  for (const request of requests) {
    const bends = chance(0.5) ? 1 + number(3) : 0
    for (let count = 0; count < bends; count += 1) bend(request)
  }
  let wire = Buffer.concat(
    requests.map((request, place) => write(request, place === requests.length - 1, chance(0.15))),
  )
  const [first] = requests
  // Who closes after a long body that is not wanted may miss the answer: that is TCP's.
  let isSound = requests.length === 1 && (first?.body.length ?? 0) < 16_384
  let end: 'wait' | 'leave' = 'wait'
  const fault = random()
  if (fault < 0.06) {
    // Broken off: a body, or a head, that never ends, or a connection that is cut.
    wire = wire.subarray(0, number(wire.length))
    end = chance(0.7) ? 'leave' : 'wait'
    isSound = false
  } else if (fault < 0.12) {
    // Bytes on the way have changed.
    wire = Buffer.from(wire)
    for (let count = 0; count < 1 + number(5); count += 1) wire[number(wire.length)] = number(256)
    isSound = false
  }
  const isSlow = chance(0.02)
  const at = number(wire.length)
  return {
    pieces: isSlow || chance(0.1) ? [wire.subarray(0, at), wire.subarray(at)] : [wire],
    // Longer than the registry waits, now and then.
    pauseMs: isSlow ? pick([50, 4000]) : 1,
    end,
    isSound: isSound && !isSlow,
    method: first?.method ?? '',
  }
}

/** Keeps what the generator meant as one target: a space or a line's end would end it. */
function encodeTarget(path: string): string {
  return path.replace(/[^\x21-\x7e]/g, (character) => encodeURIComponent(character))
}
