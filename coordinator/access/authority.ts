/**
 * The coordinator's own certificate authority: P-256 throughout, made at the first start. Its key and
 * certificate lie in one file, readable by its owner alone, so that there is never one without the other.
 */
import 'reflect-metadata'
import { webcrypto } from 'node:crypto'
import { chmod, mkdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import * as x509 from '@peculiar/x509'
import { HearthError, hasErrno, toHearthError } from '../../core/errors.ts'
import { writeFileDurably } from '../../core/format-version.ts'
import {
  coordinatorServerName,
  formatIdentity,
  type Identity,
  nodeServerName,
} from '../../core/identity.ts'
import { authorityMs, clockSkewMs, coordinatorCertificateMs } from '../limits.ts'
import { newId } from '../state/index.ts'
import type { Authority } from './index.ts'
import { importPublicKey } from './public-key.ts'

const keyAlgorithm = { name: 'ECDSA', namedCurve: 'P-256' }
const signingAlgorithm = { name: 'ECDSA', hash: 'SHA-256' }
const { subtle } = webcrypto

export interface AuthorityOptions {
  /** The coordinator's data folder. */
  folder: string
  /** Default: the clock. */
  now?: () => number
}

/** @throws HearthError `corrupt` when the authority's file holds something else. */
export async function openAuthority(options: AuthorityOptions): Promise<Authority> {
  const now = options.now ?? Date.now
  const folder = path.join(options.folder, 'authority')
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const { certificate, privateKey } = await loadOrCreate(path.join(folder, 'authority.pem'), now)
  const caPem = certificate.toString('pem')
  // A copy without the key, to hand out.
  await writeFileDurably(path.join(folder, 'ca.pem'), `${caPem}\n`, 0o644)

  async function sign(identity: Identity, publicKey: webcrypto.CryptoKey, lifetimeMs: number) {
    // Certificates know whole seconds only.
    const expiresAtMs = Math.floor((now() + lifetimeMs) / 1_000) * 1_000
    const signed = await x509.X509CertificateGenerator.create({
      subject: `CN=${commonName(identity)}`,
      issuer: certificate.subject,
      notBefore: new Date(now() - clockSkewMs),
      notAfter: new Date(expiresAtMs),
      signingAlgorithm,
      publicKey,
      signingKey: privateKey,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension(usages(identity)),
        new x509.SubjectAlternativeNameExtension([
          ...serverNames(identity).map((value) => ({ type: 'dns' as const, value })),
          { type: 'url', value: formatIdentity(identity) },
        ]),
        await x509.AuthorityKeyIdentifierExtension.create(certificate.publicKey),
      ],
    })
    return { certificatePem: signed.toString('pem'), expiresAtMs }
  }

  return {
    caPem,
    async issue(identity, publicKey, lifetimeMs) {
      return sign(identity, await importPublicKey(publicKey), lifetimeMs)
    },
    async issueOwn() {
      const keys = await subtle.generateKey(keyAlgorithm, true, ['sign', 'verify'])
      const issued = await sign({ type: 'coordinator' }, keys.publicKey, coordinatorCertificateMs)
      return { ...issued, caPem, privateKeyPem: await exportPrivateKey(keys.privateKey) }
    },
  }
}

/** For people who look at the certificate; nothing reads it. At most 64 characters (RFC 5280, ub-common-name). */
function commonName(identity: Identity): string {
  if (identity.type === 'coordinator') return 'Hearth coordinator'
  if (identity.type === 'node') return `Hearth node ${identity.nodeId}`
  return `Hearth client ${identity.buildId ?? 'standby'}`
}

function usages(identity: Identity): string[] {
  const client = x509.ExtendedKeyUsage.clientAuth
  return identity.type === 'client' ? [client] : [client, x509.ExtendedKeyUsage.serverAuth]
}

function serverNames(identity: Identity): string[] {
  if (identity.type === 'coordinator') return [coordinatorServerName]
  return identity.type === 'node' ? [nodeServerName(identity.nodeId)] : []
}

interface KeptAuthority {
  certificate: x509.X509Certificate
  privateKey: webcrypto.CryptoKey
}

async function loadOrCreate(file: string, now: () => number): Promise<KeptAuthority> {
  let pem: string
  try {
    pem = await readFile(file, 'utf8')
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) throw toHearthError(error, `read ${file}`)
    return create(file, now)
  }
  // Whoever copied the folder may have widened it.
  await chmod(file, 0o600)
  try {
    const [key, certificate] = x509.PemConverter.decodeWithHeaders(pem)
    if (key?.type !== 'PRIVATE KEY' || certificate === undefined)
      throw new Error('not both are there')
    return {
      certificate: new x509.X509Certificate(certificate.rawData),
      privateKey: await subtle.importKey('pkcs8', key.rawData, keyAlgorithm, false, ['sign']),
    }
  } catch (error) {
    throw new HearthError('corrupt', `${file} holds no certificate authority`, {
      cause: error,
      hint: 'restore it from a copy; without it every node must join again',
    })
  }
}

async function create(file: string, now: () => number): Promise<KeptAuthority> {
  const keys = await subtle.generateKey(keyAlgorithm, true, ['sign', 'verify'])
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    // Told apart from other installations' authorities by name, so that verifiers never mix them up.
    name: `CN=Hearth authority ${newId(12)}`,
    notBefore: new Date(now() - clockSkewMs),
    notAfter: new Date(now() + authorityMs),
    signingAlgorithm,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(
        x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign,
        true,
      ),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  })
  const keyPem = await exportPrivateKey(keys.privateKey)
  await writeFileDurably(file, `${keyPem}\n${certificate.toString('pem')}\n`, 0o600)
  return { certificate, privateKey: keys.privateKey }
}

async function exportPrivateKey(key: webcrypto.CryptoKey): Promise<string> {
  return x509.PemConverter.encode(await subtle.exportKey('pkcs8', key), 'PRIVATE KEY')
}
