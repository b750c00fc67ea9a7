/** Which coordinator a client verb asks, and with what credential. */
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { findText, type Layers, type Origin } from '../core/config.ts'
import { HearthError, toHearthError } from '../core/errors.ts'
import { dataClientFile, loginClientFile, readClientFile } from './client-file.ts'
import { findDataFolder, settings } from './settings.ts'
import type { Terminal } from './terminal.ts'

export interface Connection {
  /** "host:port". */
  readonly address: string
  readonly token: string
  readonly caPem: string
  readonly origins: Readonly<Record<'address' | 'token' | 'caPem', ConnectionOrigin>>
}

/** A setting, or the client.json that says it. */
export type ConnectionOrigin = Origin | { readonly type: 'client file'; readonly file: string }

/**
 * The environment beats a client.json; a data folder that was named beats `hearth login`, which beats the
 * default data folder.
 * @returns undefined when nothing names a coordinator.
 * @throws HearthError `invalid-input` when only half of it is known.
 */
export async function findConnection(
  terminal: Terminal,
  layers: Layers,
): Promise<Connection | undefined> {
  const [address, token, ca, saved] = await Promise.all([
    findText(settings.coordinator, layers),
    findText(settings.token, layers),
    findText(settings.ca, layers),
    findClientFile(terminal, layers),
  ])
  if (saved === undefined && address === undefined) return undefined
  if (ca !== undefined && token === undefined) {
    // A saved token must never be sent to somebody whom another authority vouches for.
    throw new HearthError('invalid-input', 'HEARTH_CA is set and HEARTH_TOKEN is not', {
      hint: 'set both, or neither',
    })
  }
  const file: ConnectionOrigin | undefined =
    saved === undefined ? undefined : { type: 'client file', file: saved.file }
  const pemFile = ca === undefined ? undefined : path.resolve(terminal.folder, ca.value)
  const [addressKnown, tokenKnown, caKnown] = [
    address ?? (saved && file && { value: saved.client.address, origin: file }),
    token ?? (saved && file && { value: saved.client.token, origin: file }),
    pemFile !== undefined && ca !== undefined
      ? { value: await readPem(pemFile), origin: ca.origin }
      : saved && file && { value: saved.client.caPem, origin: file },
  ]
  if (addressKnown === undefined || tokenKnown === undefined || caKnown === undefined) {
    const missing = tokenKnown === undefined ? 'HEARTH_TOKEN' : 'HEARTH_CA'
    throw new HearthError('invalid-input', `HEARTH_COORDINATOR is set and ${missing} is not`, {
      hint: 'set HEARTH_COORDINATOR, HEARTH_TOKEN and HEARTH_CA, or use "hearth login"',
    })
  }
  return {
    address: addressKnown.value,
    token: tokenKnown.value,
    caPem: caKnown.value,
    origins: {
      address: addressKnown.origin,
      token: tokenKnown.origin,
      caPem: caKnown.origin,
    },
  }
}

/** @throws HearthError `environment` when nothing names a coordinator. */
export async function requireConnection(terminal: Terminal, layers: Layers): Promise<Connection> {
  const connection = await findConnection(terminal, layers)
  if (connection !== undefined) return connection
  const data = await findDataFolder(terminal, layers)
  throw new HearthError('environment', `no coordinator is known (${data.folder} has none)`, {
    hint: 'run "hearth up" on this machine, or "hearth login ADDRESS --token T --ca FILE"',
  })
}

async function findClientFile(terminal: Terminal, layers: Layers) {
  const data = await findDataFolder(terminal, layers)
  const inData = dataClientFile(data.folder)
  const candidates = data.named ? [inData] : [loginClientFile(terminal.env), inData]
  for (const file of candidates) {
    const client = await readClientFile(file)
    if (client !== undefined) return { file, client }
  }
  return undefined
}

const pemHint = 'name the file ca.pem that lies in the data folder of the coordinator'

/** @throws HearthError `invalid-input` when the file holds no certificate, or what kept it from being read. */
export async function readPem(file: string): Promise<string> {
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    const known = toHearthError(error, `read the certificate authority ${file}`)
    throw new HearthError(known.code, known.message, { hint: pemHint, cause: error })
  }
  if (text.includes('-----BEGIN CERTIFICATE-----')) return text
  throw new HearthError('invalid-input', `${file} holds no certificate in PEM`, {
    hint: pemHint,
  })
}
