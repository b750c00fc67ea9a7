/** Who this node is: its key, its id and its certificate, in one file that its owner alone can read. */
import { createPrivateKey, createPublicKey, generateKeyPair, type KeyObject } from 'node:crypto'
import { mkdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { promisify } from 'node:util'
import { z } from 'zod'
import { HearthError, hasErrno, toHearthError } from '../core/errors.ts'
import { refuseNewer, writeFileDurably } from '../core/format-version.ts'
import type { TlsIdentity } from '../core/grpc-server.ts'

const fileVersion = 1

const certificateShape = z.object({
  nodeId: z.string().min(1),
  certificatePem: z.string(),
  caPem: z.string(),
  issuedAtMs: z.number(),
  expiresAtMs: z.number(),
})
/** A membership of the mesh, as the coordinator signed it. */
const enrolmentShape = z.object({
  peerId: z.string(),
  /** Both in base64. */
  membership: z.string(),
  membershipKey: z.string(),
  receivedAtMs: z.number(),
})
const fileShape = z.object({
  version: z.int(),
  privateKeyPem: z.string(),
  /** Absent until the node has joined. */
  certificate: certificateShape.optional(),
  /** Absent for a node that is not in the mesh. */
  enrolment: enrolmentShape.optional(),
})

export type NodeCertificate = z.infer<typeof certificateShape>
export type KeptEnrolment = z.infer<typeof enrolmentShape>

export interface NodeIdentity {
  /** DER SubjectPublicKeyInfo. */
  readonly publicKey: Buffer
  certificate(): NodeCertificate | undefined
  /** @throws an assertion before the first certificate. */
  tls(): TlsIdentity
  enrolment(): KeptEnrolment | undefined
  /** Both come in one answer; without an enrolment the earlier one goes. */
  keep(certificate: NodeCertificate, enrolment?: KeptEnrolment): Promise<void>
}

/**
 * Reads the identity, or makes a key. The key is kept before it is used, so that a node whose first answer
 * was lost comes again with the same one.
 * @throws HearthError `version`, `corrupt`
 */
export async function openNodeIdentity(folder: string): Promise<NodeIdentity> {
  const file = path.join(folder, 'identity.json')
  await mkdir(folder, { recursive: true, mode: 0o700 })
  let content = (await read(file)) ?? (await create(file))
  return {
    publicKey: publicKeyOf(content.privateKeyPem, file),
    certificate: () => content.certificate,
    tls() {
      const { certificate, privateKeyPem } = content
      if (certificate === undefined) throw new Error('the node has not joined yet')
      return { privateKeyPem, certificatePem: certificate.certificatePem, caPem: certificate.caPem }
    },
    enrolment: () => content.enrolment,
    async keep(certificate, enrolment) {
      const { enrolment: _, ...rest } = content
      const next = { ...rest, certificate, ...(enrolment === undefined ? {} : { enrolment }) }
      await write(file, next)
      content = next
    },
  }
}

type Content = z.infer<typeof fileShape>

async function create(file: string): Promise<Content> {
  const { privateKey } = await promisify(generateKeyPair)('ec', { namedCurve: 'P-256' })
  const privateKeyPem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()
  const content = { version: fileVersion, privateKeyPem }
  await write(file, content)
  return content
}

async function write(file: string, content: Content): Promise<void> {
  await writeFileDurably(file, `${JSON.stringify(content, undefined, 2)}\n`, 0o600)
}

async function read(file: string): Promise<Content | undefined> {
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined
    throw toHearthError(error, `read ${file}`)
  }
  try {
    const content = fileShape.parse(JSON.parse(text))
    refuseNewer(file, content.version, fileVersion)
    return content
  } catch (error) {
    throw error instanceof HearthError ? error : damaged(file, error)
  }
}

function publicKeyOf(privateKeyPem: string, file: string): Buffer {
  let key: KeyObject
  try {
    key = createPublicKey(createPrivateKey(privateKeyPem))
  } catch (error) {
    throw damaged(file, error)
  }
  return key.export({ type: 'spki', format: 'der' })
}

function damaged(file: string, cause: unknown): HearthError {
  return new HearthError('corrupt', `${file} holds no identity of a node`, {
    cause,
    hint: 'delete it and join again with a new join token',
  })
}
