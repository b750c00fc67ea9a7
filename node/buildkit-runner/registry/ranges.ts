/**
 * Ranges and conditions of requests: RFC 9110, sections 13 and 14, and the chunk ranges of uploads, which
 * the distribution spec writes without a unit.
 */

/** Both inclusive, from 0. */
export interface ByteRange {
  readonly start: number
  readonly end: number
}

export type RangeAnswer =
  | { readonly type: 'whole' }
  | { readonly type: 'part'; readonly range: ByteRange }
  | { readonly type: 'unsatisfiable' }

/**
 * What a `Range` header asks of a body of `size` bytes. A header that is malformed, or asks for several
 * ranges, is ignored, as RFC 9110 allows: the answer is then the whole body.
 */
export function parseRange(header: string | undefined, size: number): RangeAnswer {
  const match = /^bytes=[ \t]*(\d*)-(\d*)[ \t]*$/.exec(header ?? '')
  const [, first = '', last = ''] = match ?? []
  if (match === null || (first === '' && last === '')) return { type: 'whole' }
  if (first === '') {
    const length = Math.min(Number(last), size)
    if (length === 0) return { type: 'unsatisfiable' }
    return { type: 'part', range: { start: size - length, end: size - 1 } }
  }
  const start = Number(first)
  if (last !== '' && Number(last) < start) return { type: 'whole' }
  if (start >= size) return { type: 'unsatisfiable' }
  const end = last === '' ? size - 1 : Math.min(Number(last), size - 1)
  return { type: 'part', range: { start, end } }
}

/** A chunk's place in its upload: `<first>-<last>`. Undefined when the header is malformed. */
export function parseContentRange(header: string): ByteRange | undefined {
  const match = /^(?:bytes )?(\d{1,15})-(\d{1,15})(?:\/(?:\d+|\*))?$/.exec(header.trim())
  const [, first, last] = match ?? []
  if (first === undefined || last === undefined) return undefined
  const range = { start: Number(first), end: Number(last) }
  return range.end < range.start ? undefined : range
}

/** Whether one of the tags in an `If-None-Match` header is this one. Weak comparison, RFC 9110, 8.8.3.2. */
export function matchesTag(header: string | undefined, tag: string): boolean {
  if (header === undefined) return false
  if (header.trim() === '*') return true
  return header.split(',').some((each) => each.trim().replace(/^W\//, '') === tag)
}
