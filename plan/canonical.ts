/**
 * The one form of an operation that keys are made of: what it does, as plain data, the same from buildx's
 * JSON and from the node's view. Left out is what says nothing about the result: sessions and what only hints
 * at them, and what BuildKit's own cache keys leave out as well (`CacheMap` in solver/llbsolver/ops), so that
 * two operations have one form when BuildKit takes the one's result for the other's.
 */
import path from 'node:path'
import {
  CacheSharingOpt,
  type ChownOpt,
  type ExecOp,
  type FileAction,
  type Mount,
  type Op,
  type Platform,
  type SourceOp,
} from '../proto/generated/buildkit/ops.ts'
import { compareText } from './paths.ts'

export type Json =
  | string
  | number
  | boolean
  | null
  | readonly Json[]
  | { readonly [key: string]: Json }

/** Keys of the objects stand in a fixed order. */
export function canonicalForm(op: Op): Json {
  switch (op.op?.$case) {
    case 'exec':
      return ['exec', execForm(op.op.value), platformForm(op.platform)]
    case 'file':
      return ['file', op.op.value.actions.map((action) => actionForm(action, op.inputs.length))]
    case 'source':
      return ['source', ...sourceForm(op.op.value, op.platform)]
    case 'merge':
      return ['merge', op.op.value.inputs.map(({ input }) => input)]
    case 'diff':
      return ['diff', op.op.value.lower?.input ?? -1, op.op.value.upper?.input ?? -1]
    case 'build': {
      const { builder, inputs, attrs } = op.op.value
      return [
        'build',
        builder,
        sorted(inputs, ({ input }) => input),
        sorted(attrs, (value) => value),
      ]
    }
    case 'passthrough':
      return ['passthrough', op.op.value.id, op.op.value.outputs]
    case undefined:
      return ['nothing']
  }
}

function execForm(exec: ExecOp): Json {
  const { meta } = exec
  return {
    args: meta?.args ?? [],
    env: meta?.env ?? [],
    cwd: meta?.cwd ?? '',
    user: meta?.user ?? '',
    // The addresses may differ from day to day; BuildKit ignores them too.
    hosts: meta?.extraHosts.map(({ host }) => host) ?? [],
    hostname: meta?.hostname ?? '',
    ulimit: meta?.ulimit.map(({ name, soft, hard }) => [name, soft, hard]) ?? [],
    stubs: meta?.removeMountStubsRecursive ?? false,
    exits: meta?.validExitCodes ?? [],
    network: exec.network,
    security: exec.security,
    secrets: exec.secretenv.map(({ id, name, optional }) => [id, name, optional]),
    devices: exec.cdiDevices.map(({ name, optional }) => [name, optional]),
    mounts: exec.mounts.map(mountForm),
  }
}

function mountForm(mount: Mount): Json {
  const { tmpfsOpt, cacheOpt, secretOpt, sshOpt } = mount
  return {
    type: mount.mountType,
    dest: mount.dest,
    // Which paths of the input are mounted stands with the input.
    input: mount.input,
    output: mount.output,
    readonly: mount.readonly,
    content: mount.contentCache,
    result: mount.resultId,
    size: tmpfsOpt?.size ?? -1,
    cache: cacheOpt === undefined ? null : cacheForm(cacheOpt.id, cacheOpt.sharing, mount.dest),
    secret: secretOpt
      ? [secretOpt.id, secretOpt.uid, secretOpt.gid, secretOpt.mode, secretOpt.optional]
      : null,
    ssh: sshOpt ? [sshOpt.id, sshOpt.uid, sshOpt.gid, sshOpt.mode, sshOpt.optional] : null,
  }
}

/** A cache mount's id and sharing count only where the frontend chose them (exec.go:checkShouldClearCacheOpts). */
function cacheForm(id: string, sharing: CacheSharingOpt, dest: string): Json {
  const afterNamespace = id.includes('/') ? id.slice(id.indexOf('/') + 1) : undefined
  const byDefault = sharing === CacheSharingOpt.SHARED && (id === dest || afterNamespace === dest)
  return byDefault ? id : ''
}

function actionForm(fileAction: FileAction, inputs: number): Json {
  const { input, secondaryInput, output, action } = fileAction
  const places = [input, secondaryInput, output]
  switch (action?.$case) {
    case 'copy': {
      const copy = action.value
      const fromInput = secondaryInput >= 0 && secondaryInput < inputs
      return [
        'copy',
        places,
        {
          // The folder it lies in stands with the input.
          src: fromInput ? path.posix.basename(copy.src) : copy.src,
          dest: copy.dest,
          owner: ownerForm(copy.owner),
          mode: copy.mode,
          modeText: copy.modeStr,
          followSymlink: copy.followSymlink,
          contents: copy.dirCopyContents,
          unpack: copy.attemptUnpackDockerCompatibility,
          createDest: copy.createDestPath,
          wildcard: copy.allowWildcard,
          emptyWildcard: copy.allowEmptyWildcard,
          timestamp: copy.timestamp,
          include: copy.includePatterns,
          exclude: copy.excludePatterns,
          replace: copy.alwaysReplaceExistingDestPaths,
          required: copy.requiredPaths,
        },
      ]
    }
    case 'mkfile': {
      const { path: file, mode, data, owner, timestamp } = action.value
      const content = Buffer.from(data).toString('base64')
      return ['mkfile', places, file, mode, content, ownerForm(owner), timestamp]
    }
    case 'mkdir': {
      const { path: folder, mode, makeParents, owner, timestamp } = action.value
      return ['mkdir', places, folder, mode, makeParents, ownerForm(owner), timestamp]
    }
    case 'rm': {
      const { path: removed, allowNotFound, allowWildcard } = action.value
      return ['rm', places, removed, allowNotFound, allowWildcard]
    }
    case 'symlink': {
      const { oldpath, newpath, owner, timestamp } = action.value
      return ['symlink', places, oldpath, newpath, ownerForm(owner), timestamp]
    }
    case undefined:
      return ['unknown', places]
  }
}

function ownerForm(owner: ChownOpt | undefined): Json {
  return [owner?.user?.user, owner?.group?.user].map((user) => {
    if (user === undefined) return null
    return user.$case === 'byId' ? user.value : [user.value.name, user.value.input]
  })
}

/** Attributes that only say how or for whom a source is fetched. */
const transportAttributes = new Set([
  'oci.session',
  'oci.store',
  'image.resolvemode',
  'image.recordtype',
  'git.authheadersecret',
  'git.authtokensecret',
  'git.knownsshhosts',
  'git.mountsshsock',
  'git.fullurl',
  'http.authheadersecret',
])

function sourceForm(source: SourceOp, platform: Platform | undefined): Json[] {
  const kind = sourceKind(source)
  // What a folder of the client holds is not the operation's: see step-keys.ts.
  if (kind.type === 'local') return ['local', kind.name]
  const attributes = sorted(source.attrs, (value) => value).filter(
    ([name]) => !transportAttributes.has(name),
  )
  if (kind.type === 'image' && kind.digest !== undefined) {
    return ['image', kind.digest, platformForm(platform), attributes]
  }
  if (kind.type === 'image') return ['image', kind.reference, platformForm(platform), attributes]
  return [kind.type, source.identifier, attributes]
}

export type SourceKind =
  | { readonly type: 'local'; readonly name: string }
  | { readonly type: 'image'; readonly reference: string; readonly digest: string | undefined }
  /** @property pinned what it is can never change. */
  | { readonly type: 'git' | 'http' | 'other'; readonly pinned: boolean }

/** Schemes of source/types of BuildKit. */
export function sourceKind(source: SourceOp): SourceKind {
  const [scheme = '', rest = ''] = splitOnce(source.identifier, '://')
  switch (scheme) {
    case 'local':
      return { type: 'local', name: rest }
    case 'docker-image':
    case 'oci-layout':
    case 'docker-image+blob':
    case 'oci-layout+blob': {
      const digest = /@(sha256:[0-9a-f]{64})$/.exec(rest)?.[1]
      return { type: 'image', reference: digest ? rest.slice(0, -digest.length - 1) : rest, digest }
    }
    case 'git':
      return {
        type: 'git',
        pinned:
          source.attrs['git.checksum'] !== undefined ||
          /#([0-9a-f]{40}|[0-9a-f]{64})(:|$)/.test(rest),
      }
    case 'http':
    case 'https':
      return { type: 'http', pinned: source.attrs['http.checksum'] !== undefined }
    default:
      return { type: 'other', pinned: false }
  }
}

function splitOnce(text: string, separator: string): [string, string] {
  const at = text.indexOf(separator)
  return at === -1 ? [text, ''] : [text.slice(0, at), text.slice(at + separator.length)]
}

function platformForm(platform: Platform | undefined): Json {
  if (platform === undefined) return null
  const { os, architecture, variant, osVersion, osFeatures } = platform
  return [os, architecture, variant, osVersion, osFeatures]
}

function sorted<T, R extends Json>(
  map: Readonly<Record<string, T>>,
  value: (entry: T) => R,
): [string, R][] {
  return Object.entries(map)
    .sort(([a], [b]) => compareText(a, b))
    .map(([key, entry]) => [key, value(entry)])
}
