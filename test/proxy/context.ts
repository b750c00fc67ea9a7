/** Build contexts for tests: a Dockerfile on a busybox made from this machine's own. */
import { copyFile, mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { createTemporaryFolder, type TemporaryFolder } from '../harness/index.ts'

/** The first lines of every Dockerfile here: a base that needs no network. */
export const busyboxBase = [
  'FROM scratch AS base',
  'COPY busybox /bin/busybox',
  'RUN ["/bin/busybox", "--install", "/bin"]',
].join('\n')

/**
 * @param dockerfile lines that follow `busyboxBase`.
 * @param files further files by path.
 */
export async function createContext(
  dockerfile: string,
  files: Readonly<Record<string, string>> = {},
): Promise<TemporaryFolder> {
  const folder = await createTemporaryFolder('context')
  await copyFile('/bin/busybox', path.join(folder.path, 'busybox'))
  await writeContext(folder.path, { Dockerfile: `${busyboxBase}\n${dockerfile}\n`, ...files })
  return folder
}

export async function writeContext(
  folder: string,
  files: Readonly<Record<string, string>>,
): Promise<void> {
  for (const [name, content] of Object.entries(files)) {
    await mkdir(path.dirname(path.join(folder, name)), { recursive: true })
    await writeFile(path.join(folder, name), content)
  }
}

/** Arguments for a Dockerfile build by each client, with the few options that they spell differently. */
export const clientKinds = {
  buildctl: (context: string, more: ClientOptions = {}) => [
    ...['build', '--progress', 'plain', '--frontend', 'dockerfile.v0'],
    ...['--local', `context=${context}`, '--local', `dockerfile=${context}`],
    ...Object.entries(more.contexts ?? {}).flatMap(([name, folder]) => [
      ...['--local', `${name}=${folder}`],
      ...['--opt', `context:${name}=local:${name}`],
    ]),
    ...Object.entries(more.buildArgs ?? {}).flatMap(([name, value]) => [
      ...['--opt', `build-arg:${name}=${value}`],
    ]),
    ...(more.noCache ? ['--opt', 'no-cache='] : []),
    ...(more.output === undefined ? [] : ['--output', more.output]),
    ...(more.flags ?? []),
  ],
  buildx: (context: string, more: ClientOptions = {}) => [
    ...['build', '--progress', 'plain', '--provenance', 'false'],
    ...Object.entries(more.contexts ?? {}).flatMap(([name, folder]) => [
      ...['--build-context', `${name}=${folder}`],
    ]),
    ...Object.entries(more.buildArgs ?? {}).flatMap(([name, value]) => [
      ...['--build-arg', `${name}=${value}`],
    ]),
    ...(more.noCache ? ['--no-cache'] : []),
    ...(more.output === undefined ? [] : ['--output', more.output]),
    ...(more.flags ?? []),
    context,
  ],
}

export type ClientKind = keyof typeof clientKinds

export interface ClientOptions {
  contexts?: Record<string, string>
  buildArgs?: Record<string, string>
  noCache?: boolean
  output?: string
  /** The same in both clients: `--secret`, `--ssh`. */
  flags?: string[]
}
