/**
 * Lists of what a repository has: tags, and the manifests about another manifest
 * (https://github.com/opencontainers/distribution-spec/blob/main/spec.md#content-discovery).
 */
import { mib } from '../../../core/limits.ts'
import { type Exchange, repositoryPath, shelfOf } from './exchange.ts'
import { isAnyDigest } from './manifest-document.ts'
import type { KeptManifest, ManifestTable } from './manifest-table.ts'
import { digestInvalid, type Refusal, refuse } from './oci-errors.ts'

/** Tags in one answer; more are told by a Link. */
const tagsPerAnswer = 1000

const referrersPerAnswer = 1000
/** Their annotations may be long: what clients take as a manifest bounds an answer too. */
const referrerBytesMax = 2 * mib

const indexType = 'application/vnd.oci.image.index.v1+json'

const nInvalid: Refusal = {
  status: 400,
  code: 'PAGINATION_NUMBER_INVALID',
  message: 'n is the number of tags to list',
}

/** GET `tags/list`, with `n` and `last`. */
export function listTags(manifests: ManifestTable | undefined, exchange: Exchange): void {
  const { query, repository, response } = exchange
  const asked = query.get('n')
  if (asked !== null && !/^\d{1,9}$/.test(asked)) {
    refuse(response, nInvalid)
    return
  }
  const limit = Math.min(asked === null ? tagsPerAnswer : Number(asked), tagsPerAnswer)
  const last = query.get('last') ?? undefined
  // One more tells whether a Link is due.
  const found = limit === 0 ? [] : tagsAfter(manifests, exchange, { last, limit: limit + 1 })
  const tags = found.slice(0, limit)
  const rest = found.length > limit ? { n: String(limit), last: tags.at(-1) ?? '' } : undefined
  const path = `${repositoryPath(repository)}/tags/list`
  sendJson(
    exchange,
    { 'content-type': 'application/json', ...nextLink(path, rest) },
    { name: `${repository.capability}/${repository.name}`, tags },
  )
}

function tagsAfter(
  manifests: ManifestTable | undefined,
  exchange: Exchange,
  page: { last: string | undefined; limit: number },
): string[] {
  const { grant } = exchange
  if (grant.tags === 'of the scope') return manifests?.tags(shelfOf(exchange), page) ?? []
  const { last = '' } = page
  return [...new Set([...grant.documentTags.keys(), ...grant.pushed.keys()])]
    .sort()
    .filter((tag) => tag > last)
    .slice(0, page.limit)
}

/** GET `referrers/<digest>`, with `artifactType`. An index of no manifests is an answer too. */
export function listReferrers(
  manifests: ManifestTable | undefined,
  exchange: Exchange,
  subject: string,
): void {
  const { query, grant, repository, response } = exchange
  if (!isAnyDigest(subject)) {
    refuse(response, digestInvalid('this is not a digest'))
    return
  }
  const wanted = query.get('artifactType') || undefined
  const last = query.get('last') ?? undefined
  const page = { last, limit: referrersPerAnswer }
  const found =
    grant.tags === 'of the scope'
      ? (manifests?.referrers(shelfOf(exchange), subject, page) ?? [])
      : []
  const { descriptors, lastSeen, isWhole } = fitting(found, wanted)
  const more = !isWhole || found.length === referrersPerAnswer
  const path = `${repositoryPath(repository)}/referrers/${subject}`
  const filter = wanted === undefined ? undefined : { artifactType: wanted }
  sendJson(
    exchange,
    {
      'content-type': indexType,
      ...nextLink(path, more ? { ...filter, last: lastSeen } : undefined),
      ...(filter === undefined ? {} : { 'oci-filters-applied': 'artifactType' }),
    },
    { schemaVersion: 2, mediaType: indexType, manifests: descriptors },
  )
}

/** As many descriptors as one answer may hold, one at least. */
function fitting(
  found: readonly KeptManifest[],
  artifactType: string | undefined,
): { descriptors: object[]; lastSeen: string; isWhole: boolean } {
  const descriptors: object[] = []
  let bytes = 0
  let lastSeen = ''
  for (const { subject: _subject, blobs: _blobs, children: _children, ...descriptor } of found) {
    if (artifactType === undefined || descriptor.artifactType === artifactType) {
      bytes += JSON.stringify(descriptor).length
      if (bytes > referrerBytesMax && descriptors.length > 0) {
        return { descriptors, lastSeen, isWhole: false }
      }
      descriptors.push(descriptor)
    }
    lastSeen = descriptor.digest
  }
  return { descriptors, lastSeen, isWhole: true }
}

/** RFC 8288; the target is a path, as all of this registry's are. */
function nextLink(path: string, query: Record<string, string> | undefined): { link?: string } {
  if (query === undefined) return {}
  return { link: `<${path}?${new URLSearchParams(query)}>; rel="next"` }
}

function sendJson(
  { response, method }: Exchange,
  headers: Record<string, string>,
  value: object,
): void {
  const body = Buffer.from(JSON.stringify(value))
  response.writeHead(200, { ...headers, 'content-length': body.length })
  response.end(method === 'HEAD' ? undefined : body)
}
