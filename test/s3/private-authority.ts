/** A certificate authority that nobody trusts by default, and one certificate of it for 127.0.0.1. */
import 'reflect-metadata'
import { webcrypto } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import * as x509 from '@peculiar/x509'

export interface PrivateCertificate {
  /** Files in PEM. */
  readonly authority: string
  readonly certificate: string
  readonly key: string
}

const keyAlgorithm = { name: 'ECDSA', namedCurve: 'P-256' }
const signingAlgorithm = { name: 'ECDSA', hash: 'SHA-256' }
const hourMs = 3_600_000

export async function makePrivateCertificate(folder: string): Promise<PrivateCertificate> {
  const { subtle } = webcrypto
  const validity = {
    notBefore: new Date(Date.now() - hourMs),
    notAfter: new Date(Date.now() + hourMs),
  }
  const authorityKeys = await subtle.generateKey(keyAlgorithm, true, ['sign', 'verify'])
  const authority = await x509.X509CertificateGenerator.createSelfSigned({
    name: 'CN=Private authority',
    ...validity,
    signingAlgorithm,
    keys: authorityKeys,
    extensions: [new x509.BasicConstraintsExtension(true, 0, true)],
  })
  const keys = await subtle.generateKey(keyAlgorithm, true, ['sign', 'verify'])
  const certificate = await x509.X509CertificateGenerator.create({
    subject: 'CN=127.0.0.1',
    issuer: authority.subject,
    ...validity,
    signingAlgorithm,
    publicKey: keys.publicKey,
    signingKey: authorityKeys.privateKey,
    extensions: [new x509.SubjectAlternativeNameExtension([{ type: 'ip', value: '127.0.0.1' }])],
  })
  const privateKey = Buffer.from(await subtle.exportKey('pkcs8', keys.privateKey))
  const files = {
    authority: path.join(folder, 'authority.pem'),
    certificate: path.join(folder, 'certificate.pem'),
    key: path.join(folder, 'key.pem'),
  }
  await writeFile(files.authority, authority.toString('pem'))
  await writeFile(files.certificate, certificate.toString('pem'))
  await writeFile(files.key, x509.PemConverter.encode(privateKey, 'PRIVATE KEY'))
  return files
}
