/** The operator's calls to the coordinator of a mesh of processes, where the command line does not say enough. */
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { openAuthority } from '../../coordinator/access/index.ts'
import { callUnary } from '../../core/grpc-call.ts'
import type { Build } from '../../proto/generated/hearth/v1/build.ts'
import type { CreateProjectReply } from '../../proto/generated/hearth/v1/coordinator.ts'
import { connectTestClient, limit } from '../control/parts.ts'
import type { TestMesh } from '../harness/index.ts'

export interface Operator extends Disposable {
  /** @param bytesMax of what it keeps on a node. */
  createProject(name: string, bytesMax: number): Promise<void>
  /** With the decisions that were made for it. */
  build(buildId: string): Promise<Build>
}

export async function connectOperator({
  coordinator,
}: Pick<TestMesh, 'coordinator'>): Promise<Operator> {
  const folder = path.join(coordinator.dataFolder, 'coordinator')
  const { caPem } = await openAuthority({ folder })
  const token = await readFile(path.join(folder, 'operator-token'), 'utf8')
  const client = connectTestClient({ address: coordinator.address, caPem }, token.trim())
  return {
    async createProject(name, bytesMax) {
      await callUnary<CreateProjectReply>(
        'create the project',
        (sent, options, done) =>
          client.admin.createProject(
            { name, policy: { bytesMax, daysMax: 30 } },
            sent,
            options,
            done,
          ),
        { metadata: client.metadata, signal: limit() },
      )
    },
    async build(buildId) {
      const { build } = await client.get(buildId)
      if (build === undefined) throw new Error(`no build ${buildId}`)
      return build
    },
    [Symbol.dispose]: () => client[Symbol.dispose](),
  }
}
