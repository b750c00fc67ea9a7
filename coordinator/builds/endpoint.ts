import { nodeServerName } from '../../core/identity.ts'
import type { Endpoint } from '../../proto/generated/hearth/v1/coordinator.ts'
import type { IssuedCertificate } from '../access/index.ts'
import type { NodeRecord } from '../state/index.ts'

/** Where a client reaches a node's build proxy, and the credential that it shows there. */
export function makeEndpoint(
  node: NodeRecord,
  caPem: string,
  { certificatePem, expiresAtMs }: IssuedCertificate,
): Endpoint {
  return {
    nodeId: node.id,
    address: node.buildAddress,
    serverName: nodeServerName(node.id),
    caPem,
    clientCertificatePem: certificatePem,
    expiresAt: new Date(expiresAtMs),
  }
}
