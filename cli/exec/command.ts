/** The command that `hearth exec` runs. */
import { access, constants } from 'node:fs/promises'
import path from 'node:path'
import { HearthError } from '../../core/errors.ts'

/**
 * Looks for the program before anything is opened for it, as a shell would.
 * @returns its path.
 * @throws HearthError `not-found`
 */
export async function findCommand(
  name: string,
  options: { env: NodeJS.ProcessEnv; folder: string },
): Promise<string> {
  const folders = name.includes('/') ? [options.folder] : (options.env.PATH ?? '').split(':')
  for (const folder of folders) {
    const file = path.resolve(options.folder, folder, name)
    const isExecutable = await access(file, constants.X_OK).then(
      () => true,
      () => false,
    )
    if (isExecutable) return file
  }
  throw new HearthError('not-found', `exec: there is no program "${name}"`, {
    hint: 'name its path, or add its folder to PATH',
  })
}

/** As the build history keeps it: arguments of an unknown program may be secret. */
export function historyOfCommand(command: readonly string[]): string {
  const [program = '', ...others] = command
  return `exec ${path.basename(program)}${others.length === 0 ? '' : ' …'}`
}
