/** What an earlier life has left in a peer's folder, and must neither keep it from starting nor grow for ever. */
import path from 'node:path'
import { setAsideDamage } from '../core/lmdb-failure.ts'
import type { Logger } from '../core/log.ts'
import type { DigestIndex } from './digest-index/index.ts'
import type { MeshHost } from './host/index.ts'

/** Everything there but the peer's key can be had again from others. */
const environments = ['roster', 'advert-log', 'digest-index/data', 'fragments']

/** Before `openMesh`. @param folder its folder. */
export async function setDamageAside(folder: string, log: Logger): Promise<void> {
  for (const name of environments) await setAsideDamage(path.join(folder, name), log)
}

/** After `openMesh`: whoever's membership ran out while this peer was down has left nobody to say so. */
export function dropFormerMembers(mesh: {
  host: Pick<MeshHost, 'peerId' | 'member'>
  index: Pick<DigestIndex, 'nodes' | 'drop'>
}): void {
  for (const { node } of mesh.index.nodes()) {
    if (node !== mesh.host.peerId && mesh.host.member(node) === undefined) mesh.index.drop(node)
  }
}
