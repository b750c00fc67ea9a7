/**
 * People who build small things without a pause, until they are told to stop: a step that takes a while, a
 * layer that is worth exporting, a cache mount.
 */
import type { Hearth, HearthBuild } from '../harness/index.ts'
import { createContext, writeContext } from '../proxy/context.ts'

const dockerfile = [
  'RUN echo tools > /tools',
  'COPY source /source',
  'RUN --mount=type=cache,target=/kept cat /source >> /kept/all; sleep 0.3; dd if=/dev/urandom of=/big bs=256k count=2',
  'RUN for i in 1 2 3 4; do cat /source >> /small; done',
  'FROM base',
  'COPY --from=0 /big /big',
].join('\n')

export interface Builder extends AsyncDisposable {
  readonly project: string
  /** One build of something that was never built before. */
  build(hearth: Hearth, interrupt?: AbortSignal): Promise<HearthBuild>
}

export async function createBuilder(name: string): Promise<Builder> {
  const context = await createContext(dockerfile, { source: name })
  const project = `soak-${name}`
  let turn = 0
  return {
    project,
    async build(hearth, interrupt) {
      turn += 1
      await writeContext(context.path, { source: `${name} ${turn}` })
      const args = ['--project', project, context.path]
      return hearth.build(args, interrupt === undefined ? {} : { interrupt })
    },
    [Symbol.asyncDispose]: () => context[Symbol.asyncDispose](),
  }
}
