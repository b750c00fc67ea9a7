/** `hearth bake`: `docker buildx bake` on Hearth's nodes. */
import { runBuild } from '../build/run-build.ts'
import type { Verb } from '../terminal.ts'

export const verb: Verb = { run: (args, terminal) => runBuild('bake', args, terminal) }
