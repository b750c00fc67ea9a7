/** Connections to nodes' control services: one per node, made when first needed, over mutual TLS. */
import { credentials } from '@grpc/grpc-js'
import { callStream, callUnary, channelOptions } from '../../core/grpc-call.ts'
import type { TlsIdentity } from '../../core/grpc-server.ts'
import { nodeServerName } from '../../core/identity.ts'
import {
  type HeldBuildsReply,
  type MountsReply,
  NodeControlClient,
  type ResetMountReply,
  type ResetReply,
} from '../../proto/generated/hearth/v1/node.ts'
import { resetMs, usageMs, verifyMs } from '../limits.ts'
import type { NodeRecord } from '../state/index.ts'
import type { NodeControlPool } from './index.ts'

export function createNodeControlPool(first: TlsIdentity): NodeControlPool {
  const clients = new Map<string, { address: string; client: NodeControlClient }>()
  let identity = first

  function clientOf(node: NodeRecord): NodeControlClient {
    const found = clients.get(node.id)
    if (found?.address === node.controlAddress) return found.client
    found?.client.close()
    const client = connect(node, identity)
    clients.set(node.id, { address: node.controlAddress, client })
    return client
  }

  function closeAll(): void {
    for (const { client } of clients.values()) client.close()
    clients.clear()
  }

  return {
    replaceIdentity(next) {
      identity = next
      closeAll()
    },
    lease: (node, request, options) =>
      callStream(
        `ask the node ${node.name} for a slot`,
        (metadata, call) => clientOf(node).lease(request, metadata, call),
        options,
      ),
    async release(node, buildId, options) {
      await callUnary(
        `give a slot back to the node ${node.name}`,
        (metadata, call, done) => clientOf(node).releaseLease({ buildId }, metadata, call, done),
        options,
      )
    },
    async heldBuilds(node, buildIds, options) {
      const reply = await callUnary<HeldBuildsReply>(
        `ask the node ${node.name} for its builds`,
        (metadata, call, done) => clientOf(node).heldBuilds({ buildIds }, metadata, call, done),
        options,
      )
      return reply.buildIds
    },
    usage: (node, project, options) =>
      callUnary(
        `ask the node ${node.name} for its usage`,
        (metadata, call, done) => clientOf(node).usage({ project }, metadata, call, done),
        { ...options, timeoutMs: usageMs },
      ),
    verify: (node, project, options) =>
      callStream(
        `verify the cache of the node ${node.name}`,
        (metadata, call) => clientOf(node).verify({ project }, metadata, call),
        { ...options, timeoutMs: verifyMs },
      ),
    async reset(node, project, options) {
      const reply = await callUnary<ResetReply>(
        `reset the cache of the node ${node.name}`,
        (metadata, call, done) => clientOf(node).reset({ project }, metadata, call, done),
        { ...options, timeoutMs: resetMs },
      )
      return reply.bytesFreed
    },
    async mounts(node, project, options) {
      const reply = await callUnary<MountsReply>(
        `ask the node ${node.name} for its cache mounts`,
        (metadata, call, done) => clientOf(node).mounts({ project }, metadata, call, done),
        options,
      )
      return reply.mounts
    },
    async resetMount(node, mount, options) {
      const reply = await callUnary<ResetMountReply>(
        `reset a cache mount of the node ${node.name}`,
        (metadata, call, done) => clientOf(node).resetMount(mount, metadata, call, done),
        { ...options, timeoutMs: usageMs },
      )
      return reply.snapshots
    },
    [Symbol.dispose]: closeAll,
  }
}

function connect(node: NodeRecord, identity: TlsIdentity): NodeControlClient {
  const serverName = nodeServerName(node.id)
  return new NodeControlClient(
    node.controlAddress,
    credentials.createSsl(
      Buffer.from(identity.caPem),
      Buffer.from(identity.privateKeyPem),
      Buffer.from(identity.certificatePem),
    ),
    {
      ...channelOptions,
      'grpc.ssl_target_name_override': serverName,
      'grpc.default_authority': serverName,
    },
  )
}
