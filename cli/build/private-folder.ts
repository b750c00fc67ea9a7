/** A folder for one build's secrets: readable by its owner alone, gone when the build is over. */
import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'

export interface PrivateFolder extends AsyncDisposable {
  readonly path: string
}

/** In memory (`$XDG_RUNTIME_DIR`) where the system has such a place, else among the temporary files. */
export async function createPrivateFolder(env: NodeJS.ProcessEnv): Promise<PrivateFolder> {
  const folder = await makeFolder(env)
  return {
    path: folder,
    async [Symbol.asyncDispose]() {
      await rm(folder, { recursive: true, force: true })
    },
  }
}

// mkdtemp creates with mode 0700.
async function makeFolder(env: NodeJS.ProcessEnv): Promise<string> {
  const runtime = env.XDG_RUNTIME_DIR
  if (runtime !== undefined && path.isAbsolute(runtime)) {
    try {
      return await mkdtemp(path.join(runtime, 'hearth-'))
    } catch {
      // Set but gone, as after "su": the temporary folder is as private, only not in memory.
    }
  }
  return await mkdtemp(path.join(os.tmpdir(), 'hearth-'))
}
