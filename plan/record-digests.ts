/**
 * The name that BuildKit's cache records have for an operation, so that the layers of a step are found among them:
 * the digest that the solver derives from the operation alone (solver/llbsolver/ops/{exec,file,merge,diff}.go and
 * solver/cachemanager.go:rootKey of BuildKit 0.34.2). It hashes Go's JSON of its messages, which is written here
 * field by field, in the order of their numbers, absent where zero.
 *
 * Sources have names that depend on what they hold, and none here. Another BuildKit may name things otherwise: then
 * no record is found for a step, and its results have no price.
 */
import path from 'node:path'
import { type Digest, digestOf } from '../core/digest.ts'
import {
  CacheSharingOpt,
  type ChownOpt,
  type ExecOp,
  type FileAction,
  type FileActionCopy,
  type FileOp,
  type Mount,
  MountType,
  type Op,
  type UserOpt,
} from '../proto/generated/buildkit/ops.ts'

/** @returns undefined for an operation whose name cannot be told from itself. */
export function recordDigest(op: Op, output: number): Digest | undefined {
  const form = formOf(op)
  if (form === undefined) return undefined
  return digestOf(`${digestOf(goJson(form))}@${output}`)
}

type Json =
  | string
  | number
  | boolean
  | undefined
  | readonly Json[]
  | { readonly [name: string]: Json }

function formOf({ op, platform, inputs }: Op): Json {
  switch (op?.$case) {
    case 'exec':
      return {
        Type: 'buildkit.exec.v0',
        Exec: execForm(op.value),
        OS: platform?.os ?? '',
        Arch: platform?.architecture ?? '',
        Variant: variantOf(platform) || undefined,
        OSVersion: platform?.osVersion || undefined,
        OSFeatures: filled(platform?.osFeatures ?? []),
      }
    case 'file':
      return fileForm(op.value, inputs.length)
    case 'merge':
      return {
        Type: 'buildkit.merge.v0',
        Merge: {
          inputs: filled(op.value.inputs.map(({ input }) => ({ input: input || undefined }))),
        },
      }
    case 'diff': {
      const { lower, upper } = op.value
      return {
        Type: 'buildkit.diff.v0',
        Diff: {
          lower: lower && { input: lower.input || undefined },
          upper: upper && { input: upper.input || undefined },
        },
      }
    }
    default:
      return undefined
  }
}

/** What containerd's platforms.Normalize leaves of it. */
function variantOf(platform: Op['platform']): string {
  if (platform === undefined) return ''
  const { architecture, variant } = platform
  return architecture === 'arm64' && variant === 'v8' ? '' : variant
}

function execForm({ meta, mounts, network, security, secretenv, cdiDevices }: ExecOp): Json {
  return {
    meta: meta && {
      args: filled(meta.args),
      env: filled(meta.env),
      cwd: meta.cwd || undefined,
      user: meta.user || undefined,
      extraHosts: filled(meta.extraHosts.map(({ host }) => ({ Host: host || undefined }))),
      hostname: meta.hostname || undefined,
      ulimit: filled(
        meta.ulimit.map(({ name, soft, hard }) => ({
          Name: name || undefined,
          Soft: soft || undefined,
          Hard: hard || undefined,
        })),
      ),
      removeMountStubsRecursive: meta.removeMountStubsRecursive || undefined,
      validExitCodes: filled(meta.validExitCodes),
    },
    mounts: hasOnlyRoot(mounts) ? undefined : filled(mounts.map(mountForm)),
    network: network || undefined,
    security: security || undefined,
    secretenv: filled(
      secretenv.map(({ id, name, optional }) => ({
        ID: id || undefined,
        name: name || undefined,
        optional: optional || undefined,
      })),
    ),
    cdiDevices: filled(
      cdiDevices.map(({ name, optional }) => ({
        name: name || undefined,
        optional: optional || undefined,
      })),
    ),
  }
}

/** The usual RUN: BuildKit leaves its mount out, as it once did by mistake. */
function hasOnlyRoot(mounts: readonly Mount[]): boolean {
  const [mount, ...others] = mounts
  return (
    mount !== undefined &&
    others.length === 0 &&
    mount.dest === '/' &&
    !mount.readonly &&
    mount.mountType === MountType.BIND &&
    mount.resultId === '' &&
    [mount.cacheOpt, mount.sshOpt, mount.secretOpt].every((option) => option === undefined)
  )
}

function mountForm(mount: Mount): Json {
  return {
    input: mount.input || undefined,
    dest: mount.dest || undefined,
    output: mount.output || undefined,
    readonly: mount.readonly || undefined,
    mountType: mount.mountType || undefined,
    TmpfsOpt: mount.tmpfsOpt && { size: mount.tmpfsOpt.size || undefined },
    cacheOpt: mount.cacheOpt && cacheForm(mount),
    secretOpt: mount.secretOpt && accessForm(mount.secretOpt),
    SSHOpt: mount.sshOpt && accessForm(mount.sshOpt),
    resultID: mount.resultId || undefined,
    contentCache: mount.contentCache || undefined,
  }
}

/** The id and the sharing of a cache mount count only where they are the frontend's own choice. */
function cacheForm({ cacheOpt, dest }: Mount): Json {
  const { id = '', sharing = CacheSharingOpt.SHARED } = cacheOpt ?? {}
  const slash = id.indexOf('/')
  const isDefault = id === dest || (slash >= 0 && id.slice(slash + 1) === dest)
  return isDefault && sharing === CacheSharingOpt.SHARED ? { ID: id || undefined } : {}
}

function accessForm(option: {
  id: string
  uid: number
  gid: number
  mode: number
  optional: boolean
}): Json {
  return {
    ID: option.id || undefined,
    uid: option.uid || undefined,
    gid: option.gid || undefined,
    mode: option.mode || undefined,
    optional: option.optional || undefined,
  }
}

function fileForm({ actions }: FileOp, inputs: number): Json {
  const indexes = actions.map(({ input, secondaryInput, output }) => [
    input,
    secondaryInput,
    output,
  ])
  return {
    Type: 'buildkit.file.v0',
    Actions: actions.map((action) =>
      Buffer.from(goJson(actionForm(action, inputs) ?? {})).toString('base64'),
    ),
    indexes: isUsualOrder(indexes) ? undefined : filled(indexes),
  }
}

/** One action after the other on the first input, from the second one if from any. */
function isUsualOrder(indexes: readonly (readonly number[])[]): boolean {
  const last = indexes.length - 1
  return (
    last >= 0 &&
    indexes.every(
      ([input, secondary, output], index) =>
        input === (index === 0 ? 0 : last + index) &&
        (secondary === -1 || secondary === 1) &&
        output === (index === last ? 0 : -1),
    )
  )
}

function actionForm({ action, secondaryInput }: FileAction, inputs: number): Json {
  switch (action?.$case) {
    case 'copy':
      return copyForm(action.value, secondaryInput !== -1 && secondaryInput < inputs)
    case 'mkfile': {
      const { path: file, mode, data, owner, timestamp } = action.value
      return {
        path: file || undefined,
        mode: mode || undefined,
        data: data.length === 0 ? undefined : Buffer.from(data).toString('base64'),
        owner: ownerForm(owner),
        timestamp: timestamp || undefined,
      }
    }
    case 'mkdir': {
      const { path: folder, mode, makeParents, owner, timestamp } = action.value
      return {
        path: folder || undefined,
        mode: mode || undefined,
        makeParents: makeParents || undefined,
        owner: ownerForm(owner),
        timestamp: timestamp || undefined,
      }
    }
    case 'symlink': {
      const { oldpath, newpath, owner, timestamp } = action.value
      return {
        oldpath: oldpath || undefined,
        newpath: newpath || undefined,
        owner: ownerForm(owner),
        timestamp: timestamp || undefined,
      }
    }
    case 'rm': {
      const { path: file, allowNotFound, allowWildcard } = action.value
      return {
        path: file || undefined,
        allowNotFound: allowNotFound || undefined,
        allowWildcard: allowWildcard || undefined,
      }
    }
    default:
      return undefined
  }
}

function copyForm(copy: FileActionCopy, isFromInput: boolean): Json {
  return {
    src: (isFromInput ? goBase(copy.src) : copy.src) || undefined,
    dest: copy.dest || undefined,
    owner: ownerForm(copy.owner),
    mode: copy.mode || undefined,
    followSymlink: copy.followSymlink || undefined,
    dirCopyContents: copy.dirCopyContents || undefined,
    attemptUnpackDockerCompatibility: copy.attemptUnpackDockerCompatibility || undefined,
    createDestPath: copy.createDestPath || undefined,
    allowWildcard: copy.allowWildcard || undefined,
    allowEmptyWildcard: copy.allowEmptyWildcard || undefined,
    timestamp: copy.timestamp || undefined,
    include_patterns: filled(copy.includePatterns),
    exclude_patterns: filled(copy.excludePatterns),
    alwaysReplaceExistingDestPaths: copy.alwaysReplaceExistingDestPaths || undefined,
    modeStr: copy.modeStr || undefined,
    required_paths: filled(copy.requiredPaths),
  }
}

/** Go's path.Base. */
function goBase(text: string): string {
  if (text === '') return '.'
  return path.posix.basename(text) || '/'
}

function ownerForm(owner: ChownOpt | undefined): Json {
  return owner && { user: userForm(owner.user), group: userForm(owner.group) }
}

function userForm(option: UserOpt | undefined): Json {
  if (option === undefined) return undefined
  const { user } = option
  if (user?.$case === 'byName') {
    const { name, input } = user.value
    return { User: { byName: { name: name || undefined, input: input || undefined } } }
  }
  return { User: { byId: user?.value || undefined } }
}

function filled<Item extends Json>(items: readonly Item[]): readonly Item[] | undefined {
  return items.length === 0 ? undefined : items
}

/** As Go's encoding/json writes it, which escapes what HTML and JavaScript would trip over. */
function goJson(form: Json): string {
  return JSON.stringify(form).replaceAll(/[<>&\u2028\u2029]/g, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
  })
}
