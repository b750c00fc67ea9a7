/** Certificates of nodes, from an authority made for one test. */
import { generateKeyPairSync } from 'node:crypto'
import { openAuthority } from '../../coordinator/access/index.ts'
import type { TlsIdentity } from '../../core/grpc-server.ts'
import { createTemporaryFolder } from './temporary-folder.ts'

export interface NodeIdentities extends AsyncDisposable {
  issue(nodeId: string): Promise<TlsIdentity>
}

export async function createNodeIdentities(): Promise<NodeIdentities> {
  const folder = await createTemporaryFolder('authority')
  const authority = await openAuthority({ folder: folder.path })
  return {
    async issue(nodeId) {
      const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
      const spki = publicKey.export({ type: 'spki', format: 'der' })
      const issued = await authority.issue({ type: 'node', nodeId }, spki, 60 * 60_000)
      return {
        certificatePem: issued.certificatePem,
        privateKeyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
        caPem: authority.caPem,
      }
    },
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  }
}
