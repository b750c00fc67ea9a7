import { randomBytes } from 'node:crypto'

/** RFC 4648 base32 in lower case: legal in host names, paths and shells, and no case to get wrong. */
const alphabet = 'abcdefghijklmnopqrstuvwxyz234567'

/** A random id; five bits a character, so 12 of them for what is counted in thousands. */
export function newId(characters: number): string {
  return Array.from(randomBytes(characters), (byte) => alphabet[byte & 31]).join('')
}
