/**
 * The token that the person at this machine has: in the coordinator's folder, readable by its owner alone,
 * beside the authority's key, which could do more harm. Whoever deletes the file, or revokes the token, gets
 * a new one at the next start.
 */
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { HearthError, hasErrno, toHearthError } from '../../core/errors.ts'
import { writeFileDurably } from '../../core/format-version.ts'
import type { Tokens } from './index.ts'

export async function readOperatorToken(deps: { tokens: Tokens }, folder: string): Promise<string> {
  const file = path.join(folder, 'operator-token')
  const kept = await read(file)
  if (kept !== undefined && isValid(deps.tokens, kept)) return kept
  const { token } = deps.tokens.createOperator('made at the start of the coordinator')
  await writeFileDurably(file, `${token}\n`, 0o600)
  return token
}

async function read(file: string): Promise<string | undefined> {
  try {
    return (await readFile(file, 'utf8')).trim()
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined
    throw toHearthError(error, `read ${file}`)
  }
}

function isValid(tokens: Tokens, token: string): boolean {
  try {
    return tokens.verify(token).type === 'operator'
  } catch (error) {
    if (error instanceof HearthError && error.code === 'unauthenticated') return false
    throw error
  }
}
