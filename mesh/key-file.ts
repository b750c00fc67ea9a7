/** Durable Ed25519 keys, each in a file of its own that its owner alone can read. */
import { createPrivateKey, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { chmod, mkdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { HearthError, hasErrno, toHearthError } from '../core/errors.ts'
import { writeFileDurably } from '../core/format-version.ts'

/**
 * Reads the key, or makes one and keeps it before it is used.
 * @param loss what to do when the file is damaged, for the hint.
 * @throws HearthError `corrupt` when the file holds something else.
 */
export async function openKeyFile(file: string, loss: string): Promise<KeyObject> {
  let pem: string
  try {
    pem = await readFile(file, 'utf8')
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) throw toHearthError(error, `read ${file}`)
    return await create(file)
  }
  // Whoever copied the folder may have widened it.
  await chmod(file, 0o600)
  try {
    const key = createPrivateKey(pem)
    if (key.asymmetricKeyType === 'ed25519') return key
  } catch (cause) {
    throw damaged(file, loss, cause)
  }
  throw damaged(file, loss)
}

async function create(file: string): Promise<KeyObject> {
  const { privateKey } = generateKeyPairSync('ed25519')
  await mkdir(path.dirname(file), { recursive: true, mode: 0o700 })
  const pem = privateKey.export({ type: 'pkcs8', format: 'pem' })
  await writeFileDurably(file, pem.toString(), 0o600)
  return privateKey
}

function damaged(file: string, hint: string, cause?: unknown): HearthError {
  return new HearthError('corrupt', `${file} holds no Ed25519 key`, { hint, cause })
}
