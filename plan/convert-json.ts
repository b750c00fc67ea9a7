/**
 * Reads what `buildx build --call convertllb,format=json` prints: the operations in protobuf's JSON mapping
 * (https://protobuf.dev/programming-guides/json/: absent means default, 64-bit numbers are text, bytes are
 * base64), metadata and sources beside them (frontend/subrequests/convertllb of BuildKit 0.34.2).
 */
import { z } from 'zod'
import { HearthError } from '../core/errors.ts'
import {
  CacheSharingOpt,
  MountContentCache,
  MountType,
  NetMode,
  Op,
  SecurityMode,
  Source,
} from '../proto/generated/buildkit/ops.ts'
import { type BuildGraph, makeGraph } from './graph.ts'

/** @throws HearthError `invalid-input` when the text is something else. */
export function graphOfJson(text: string): BuildGraph {
  let document: unknown
  try {
    document = JSON.parse(text)
  } catch (cause) {
    throw new HearthError('invalid-input', 'the plan that buildx printed is no JSON', { cause })
  }
  const parsed = convertedShape.safeParse(document)
  if (!parsed.success) {
    const [issue] = parsed.error.issues
    throw new HearthError(
      'invalid-input',
      `the plan that buildx printed is not understood: ${issue?.path.join('.')}: ${issue?.message}`,
      { cause: parsed.error },
    )
  }
  const { def, metadata, source } = parsed.data
  return makeGraph({
    ops: new Map(Object.entries(def).map(([digest, op]) => [digest, Op.fromPartial(op)])),
    metadata,
    source: Source.fromPartial(source),
  })
}

const text = z.string().default('')
const flag = z.boolean().default(false)
const texts = z.array(z.string()).default([])
/** 32 bits are numbers, 64 bits are text. */
const number = z.union([
  z.int(),
  z
    .string()
    .regex(/^-?\d+$/)
    .transform(Number),
])
const whole = number.default(0)
const textMap = z.record(z.string(), z.string()).default({})

/** Enums come by name; one that a newer BuildKit has added counts as the default. */
function named<T extends number>(values: Readonly<Record<string, T>>, otherwise: T) {
  return z
    .string()
    .optional()
    .transform((name) => values[name ?? ''] ?? otherwise)
}

function list<T extends z.ZodType>(item: T) {
  return z.array(item).default([])
}

const userShape = z
  .object({
    byName: z.object({ name: text, input: whole }).optional(),
    byID: number.optional(),
  })
  .transform(({ byName, byID }) => {
    if (byName !== undefined) return { user: { $case: 'byName' as const, value: byName } }
    return { user: byID === undefined ? undefined : { $case: 'byId' as const, value: byID } }
  })

const ownerShape = z.object({ user: userShape.optional(), group: userShape.optional() }).optional()

const copyShape = z.object({
  src: text,
  dest: text,
  owner: ownerShape,
  mode: whole,
  followSymlink: flag,
  dirCopyContents: flag,
  attemptUnpackDockerCompatibility: flag,
  createDestPath: flag,
  allowWildcard: flag,
  allowEmptyWildcard: flag,
  timestamp: whole,
  includePatterns: texts,
  excludePatterns: texts,
  alwaysReplaceExistingDestPaths: flag,
  modeStr: text,
  requiredPaths: texts,
})

const mkfileShape = z.object({
  path: text,
  mode: whole,
  data: text.transform((base64) => Buffer.from(base64, 'base64')),
  owner: ownerShape,
  timestamp: whole,
})

const mkdirShape = z.object({
  path: text,
  mode: whole,
  makeParents: flag,
  owner: ownerShape,
  timestamp: whole,
})

const rmShape = z.object({ path: text, allowNotFound: flag, allowWildcard: flag })

const symlinkShape = z.object({ oldpath: text, newpath: text, owner: ownerShape, timestamp: whole })

const actionShape = z
  .object({
    input: whole,
    secondaryInput: whole,
    output: whole,
    copy: copyShape.optional(),
    mkfile: mkfileShape.optional(),
    mkdir: mkdirShape.optional(),
    rm: rmShape.optional(),
    symlink: symlinkShape.optional(),
  })
  .transform(({ input, secondaryInput, output, ...kinds }) => ({
    input,
    secondaryInput,
    output,
    ...oneOf('action', kinds),
  }))

const secretShape = z.object({ ID: text, uid: whole, gid: whole, mode: whole, optional: flag })

const mountShape = z
  .object({
    input: whole,
    selector: text,
    dest: text,
    output: whole,
    readonly: flag,
    mountType: named(MountType, MountType.BIND),
    TmpfsOpt: z.object({ size: whole }).optional(),
    cacheOpt: z
      .object({ ID: text, sharing: named(CacheSharingOpt, CacheSharingOpt.SHARED) })
      .optional(),
    secretOpt: secretShape.optional(),
    SSHOpt: secretShape.optional(),
    resultID: text,
    contentCache: named(MountContentCache, MountContentCache.DEFAULT),
  })
  .transform(({ TmpfsOpt, cacheOpt, secretOpt, SSHOpt, resultID, ...rest }) => ({
    ...rest,
    tmpfsOpt: TmpfsOpt,
    cacheOpt: cacheOpt && { id: cacheOpt.ID, sharing: cacheOpt.sharing },
    secretOpt: secretOpt && renamed(secretOpt),
    sshOpt: SSHOpt && renamed(SSHOpt),
    resultId: resultID,
  }))

const execShape = z.object({
  meta: z
    .object({
      args: texts,
      env: texts,
      cwd: text,
      user: text,
      extraHosts: list(
        z.object({ Host: text, IP: text }).transform(({ Host, IP }) => ({ host: Host, ip: IP })),
      ),
      hostname: text,
      ulimit: list(
        z
          .object({ Name: text, Soft: whole, Hard: whole })
          .transform(({ Name, Soft, Hard }) => ({ name: Name, soft: Soft, hard: Hard })),
      ),
      removeMountStubsRecursive: flag,
      validExitCodes: list(whole),
    })
    .optional(),
  mounts: list(mountShape),
  network: named(NetMode, NetMode.UNSET),
  security: named(SecurityMode, SecurityMode.SANDBOX),
  secretenv: list(z.object({ ID: text, name: text, optional: flag }).transform(renamed)),
  cdiDevices: list(z.object({ name: text, optional: flag })),
})

const indexShape = z.object({ input: whole })

const opShape = z
  .object({
    inputs: list(z.object({ digest: text, index: whole })),
    exec: execShape.optional(),
    source: z.object({ identifier: text, attrs: textMap }).optional(),
    file: z.object({ actions: list(actionShape) }).optional(),
    // A nested build brings operations that are known only when it runs.
    build: z
      .object({
        builder: whole,
        inputs: z.record(z.string(), indexShape).default({}),
        attrs: textMap,
      })
      .optional(),
    merge: z.object({ inputs: list(indexShape) }).optional(),
    diff: z.object({ lower: indexShape.optional(), upper: indexShape.optional() }).optional(),
    passthrough: z.object({ id: text, outputs: list(whole) }).optional(),
    platform: z
      .object({ Architecture: text, OS: text, Variant: text, OSVersion: text, OSFeatures: texts })
      .transform(({ Architecture, OS, Variant, OSVersion, OSFeatures }) => ({
        architecture: Architecture,
        os: OS,
        variant: Variant,
        osVersion: OSVersion,
        osFeatures: OSFeatures,
      }))
      .optional(),
  })
  .transform(({ inputs, platform, ...kinds }) => ({ inputs, platform, ...oneOf('op', kinds) }))

const positionShape = z.object({ line: whole, character: whole }).optional()

const convertedShape = z.object({
  def: z.record(z.string(), opShape),
  metadata: z
    .record(
      z.string(),
      z.object({ ignore_cache: flag, description: textMap }).transform((metadata) => ({
        ignoreCache: metadata.ignore_cache,
        description: metadata.description,
      })),
    )
    .default({}),
  source: z
    .object({
      locations: z
        .record(
          z.string(),
          z.object({
            locations: list(
              z.object({
                sourceIndex: whole,
                ranges: list(z.object({ start: positionShape, end: positionShape })),
              }),
            ),
          }),
        )
        .default({}),
      infos: list(z.object({ filename: text })),
    })
    .default({ locations: {}, infos: [] }),
})

/** The one of several fields that is there, as the generated code holds a `oneof`. */
function oneOf<Name extends string, Kinds extends object>(name: Name, kinds: Kinds) {
  type Case = {
    [Kind in keyof Kinds]-?: { $case: Kind; value: NonNullable<Kinds[Kind]> }
  }[keyof Kinds]
  const [found] = Object.entries(kinds).filter(([, value]) => value !== undefined)
  const chosen = found && { $case: found[0], value: found[1] }
  return { [name]: chosen } as Record<Name, Case | undefined>
}

function renamed<T extends { ID: string }>({ ID, ...rest }: T) {
  return { id: ID, ...rest }
}
