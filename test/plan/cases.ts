/**
 * Small builds that together use every instruction and every kind of mount, and changes to each of them: what
 * a plan has to foresee. Every RUN's result depends on what it reads, so that nothing is recognized by chance.
 */
import { chmod, link, mkdir, rm, symlink, utimes, writeFile } from 'node:fs/promises'
import path from 'node:path'
import type { Flag } from './planner.ts'

export interface Case {
  readonly title: string
  readonly dockerfile: string
  readonly files?: Readonly<Record<string, string>>
  /** What files alone cannot say. */
  readonly prepare?: (folder: string) => Promise<void>
  readonly flags?: (place: Place) => Flag[]
  readonly changes: readonly Change[]
}

export interface Change {
  readonly what: string
  readonly dockerfile?: string
  readonly files?: Readonly<Record<string, string>>
  readonly change?: (folder: string, place: Place) => Promise<void>
  readonly flags?: (place: Place) => Flag[]
}

/** Where things are for this run. */
export interface Place {
  /** Where the images `busybox:1`, `parent:1`, `moving:1` and `triggers:1` are: `host:port/folder`. */
  readonly registry: string
  /** The case's own folder beside its context. */
  readonly beside: string
  /** `http://127.0.0.1:port`, serves /fixed. */
  readonly http: string
  /** sha256 of /fixed, as hex. */
  readonly httpDigest: string
  /** An OCI layout with one image. */
  readonly layout: string
  /** Makes `moving:1` another image. */
  moveImage(): Promise<void>
}

const from = 'ARG IMAGES\nFROM $' + '{IMAGES}/busybox:1'

function argument(name: string, value: string): Flag {
  return { name: 'build-arg', value: `${name}=${value}` }
}

function named(name: string, value: string): Flag {
  return { name: 'build-context', value: `${name}=${value}` }
}

async function touch(file: string): Promise<void> {
  await utimes(file, new Date(2001, 1, 1), new Date(2001, 1, 1))
}

export const cases: readonly Case[] = [
  {
    title: 'COPY of single files',
    dockerfile: `${from}\nCOPY go.mod /m/\nRUN cat /m/go.mod > /deps\nCOPY main.go /m/\nRUN cat /m/main.go > /out`,
    files: { 'go.mod': 'module a', 'main.go': 'one', unused: '1' },
    changes: [
      { what: 'the second file', files: { 'main.go': 'two' } },
      { what: 'a file that nothing copies', files: { unused: '2' } },
      { what: 'the first file', files: { 'go.mod': 'module b' } },
    ],
  },
  {
    title: 'COPY of a folder',
    dockerfile: `${from}\nCOPY src /src\nRUN cat /src/a > /out\nCOPY other /other`,
    files: { 'src/a': '1', 'src/deep/b': '1', other: '1' },
    changes: [
      { what: 'a new file deep inside', files: { 'src/deep/c': '1' } },
      { what: 'only times', change: (folder) => touch(path.join(folder, 'src/a')) },
    ],
  },
  {
    title: 'COPY of everything',
    dockerfile: `${from}\nCOPY . /src\nRUN cat /src/a > /out`,
    files: { a: '1' },
    changes: [
      { what: 'permissions of the context', change: (folder) => chmod(folder, 0o711) },
      { what: 'a file', files: { a: '2' } },
    ],
  },
  {
    title: 'COPY with wildcards',
    dockerfile: `${from}\nCOPY *.txt [ab]?/x* /w/\nRUN cat /w/* > /out`,
    files: { 'one.txt': '1', 'two.md': '1', 'a1/x1': '1', 'c1/x1': '1' },
    changes: [
      { what: 'files that do not match', files: { 'two.md': '2', 'c1/x1': '2', 'a1/y': '1' } },
      { what: 'one more that matches', files: { 'b1/x2': '1' } },
    ],
  },
  {
    title: '.dockerignore',
    dockerfile: `${from}\nCOPY . /src\nRUN cat /src/kept/a > /out`,
    files: {
      '.dockerignore': 'Dockerfile\n.dockerignore\n**/*.log\ntmp\n!tmp/keep\n',
      'kept/a': '1',
      'kept/x.log': '1',
      'tmp/gone': '1',
      'tmp/keep': '1',
    },
    changes: [
      { what: 'ignored files', files: { 'kept/x.log': '2', 'tmp/gone': '2', 'b.log': '1' } },
      { what: 'one that is taken back', files: { 'tmp/keep': '2' } },
      { what: 'the list itself', files: { '.dockerignore': 'Dockerfile\n.dockerignore\n' } },
    ],
  },
  {
    title: 'COPY --chmod and --chown',
    dockerfile: `${from}\nCOPY --chmod=640 a /a\nCOPY --chown=1:2 b /b\nCOPY --chown=root:root c /c\nRUN cat /a /b /c > /out`,
    files: { a: '1', b: '1', c: '1' },
    changes: [
      {
        what: 'another owner',
        dockerfile: `${from}\nCOPY --chmod=640 a /a\nCOPY --chown=1:3 b /b\nCOPY --chown=root:root c /c\nRUN cat /a /b /c > /out`,
      },
      {
        what: 'permissions at the source',
        change: (folder) => chmod(path.join(folder, 'a'), 0o755),
      },
    ],
  },
  {
    title: 'COPY --link',
    dockerfile: `${from}\nRUN echo 1 > /before\nCOPY --link a /linked/\nRUN cat /linked/a > /out`,
    files: { a: '1' },
    changes: [
      {
        what: 'the step before',
        dockerfile: `${from}\nRUN echo 2 > /before\nCOPY --link a /linked/\nRUN cat /linked/a > /out`,
      },
      { what: 'the file', files: { a: '2' } },
    ],
  },
  {
    title: 'COPY --parents',
    dockerfile: `${from}\nCOPY --parents ./apps/*/package.json /p/\nRUN find /p > /out`,
    files: { 'apps/one/package.json': '1', 'apps/one/index.js': '1', 'apps/two/package.json': '1' },
    changes: [
      { what: 'a file beside them', files: { 'apps/one/index.js': '2', 'apps/three/readme': '1' } },
      { what: 'one of them', files: { 'apps/two/package.json': '2' } },
    ],
  },
  {
    title: 'COPY --exclude',
    dockerfile: `${from}\nCOPY --exclude=*.md --exclude=**/skip src /src\nRUN find /src > /out`,
    files: { 'src/a': '1', 'src/b.md': '1', 'src/deep/skip': '1', 'src/deep/c': '1' },
    changes: [
      { what: 'excluded files', files: { 'src/b.md': '2', 'src/deep/skip': '2' } },
      { what: 'a file that is left', files: { 'src/deep/c': '2' } },
    ],
  },
  {
    title: 'heredocs',
    dockerfile: `${from}\nCOPY <<one <<two /docs/\nfirst\none\nsecond\ntwo\nRUN <<EOF\ncat /docs/one > /out\necho more >> /out\nEOF`,
    changes: [
      {
        what: 'the text of the RUN',
        dockerfile: `${from}\nCOPY <<one <<two /docs/\nfirst\none\nsecond\ntwo\nRUN <<EOF\ncat /docs/one > /out\necho less >> /out\nEOF`,
      },
      {
        what: 'the text of the COPY',
        dockerfile: `${from}\nCOPY <<one <<two /docs/\nfirst!\none\nsecond\ntwo\nRUN <<EOF\ncat /docs/one > /out\necho less >> /out\nEOF`,
      },
    ],
  },
  {
    title: 'COPY --from a stage',
    dockerfile: `${from} AS build\nCOPY a b /in/\nRUN cat /in/a > /app && cat /in/a /in/b > /debug\n${from.replace('ARG IMAGES\n', '')}\nCOPY --from=build /app /app\nRUN cat /app > /out`,
    files: { a: '1', b: '1' },
    changes: [
      { what: 'what the copied file is made of', files: { a: '2' } },
      { what: 'something else in the stage', files: { b: '2' } },
    ],
  },
  {
    title: 'COPY --from an image',
    dockerfile:
      `ARG IMAGES\nFROM $` +
      '{IMAGES}/parent:1 AS parent\nFROM scratch\nCOPY --from=parent /version /version\nCOPY a /a',
    files: { a: '1' },
    changes: [{ what: 'a file', files: { a: '2' } }],
  },
  {
    title: 'a named context that is a folder',
    dockerfile: `${from}\nCOPY --from=extra lib /lib2\nRUN cat /lib2/x > /out\nCOPY a /a`,
    files: { a: '1' },
    prepare: async (folder) => {
      await write(`${folder}-beside`, { 'lib/x': '1', 'not/y': '1', '.dockerignore': '**/*.tmp\n' })
    },
    flags: ({ beside }) => [named('extra', beside)],
    changes: [
      {
        what: 'files that are not copied',
        change: (_, { beside }) => write(beside, { 'not/y': '2', 'lib/z.tmp': '1' }),
      },
      { what: 'a file in it', change: (_, { beside }) => write(beside, { 'lib/x': '2' }) },
    ],
  },
  {
    title: 'a named context that is an image',
    dockerfile: 'FROM base\nCOPY a /a\nRUN cat /a > /out',
    files: { a: '1' },
    flags: ({ registry }) => [named('base', `docker-image://${registry}/busybox:1`)],
    changes: [
      {
        what: 'another image',
        flags: ({ registry }) => [named('base', `docker-image://${registry}/parent:1`)],
      },
    ],
  },
  {
    title: 'a named context that is an OCI layout',
    dockerfile: 'FROM base\nCOPY a /a\nRUN cat /a > /out',
    files: { a: '1' },
    flags: ({ layout }) => [named('base', `oci-layout://${layout}`)],
    changes: [{ what: 'a file', files: { a: '2' } }],
  },
  {
    title: 'RUN --mount=type=bind of the context',
    dockerfile: `${from}\nRUN --mount=type=bind,source=src,target=/src cat /src/a > /out\nRUN --mount=type=bind,target=/all,rw cat /all/b > /all/c && cp /all/b /out2`,
    files: { 'src/a': '1', b: '1', '.dockerignore': 'Dockerfile' },
    changes: [
      { what: 'a file outside the first', files: { b: '2' } },
      { what: 'a file inside both', files: { 'src/a': '2' } },
    ],
  },
  {
    title: 'RUN --mount=type=bind of a stage',
    dockerfile: `${from} AS tools\nCOPY a /tools/a\n${from.replace('ARG IMAGES\n', '')}\nRUN --mount=type=bind,from=tools,source=/tools,target=/t cat /t/a > /out`,
    files: { a: '1' },
    changes: [{ what: 'a file of the stage', files: { a: '2' } }],
  },
  {
    title: 'RUN --mount=type=cache',
    dockerfile: `${from}\nRUN --mount=type=cache,target=/c echo 1 > /c/x\nRUN --mount=type=cache,id=one,target=/c,sharing=locked echo 2 > /c/x`,
    changes: [
      {
        what: 'another id and sharing',
        dockerfile: `${from}\nRUN --mount=type=cache,target=/c echo 1 > /c/x\nRUN --mount=type=cache,id=two,target=/c,sharing=private echo 2 > /c/x`,
      },
      {
        what: 'another place',
        dockerfile: `${from}\nRUN --mount=type=cache,target=/d echo 1 > /d/x\nRUN --mount=type=cache,id=two,target=/c,sharing=private echo 2 > /c/x`,
      },
    ],
  },
  {
    title: 'RUN --mount=type=tmpfs, without network',
    dockerfile: `${from}\nRUN --mount=type=tmpfs,target=/t,size=1000000 echo 1 > /t/x\nRUN --network=none echo 2 > /out`,
    changes: [
      {
        what: 'another size',
        dockerfile: `${from}\nRUN --mount=type=tmpfs,target=/t,size=2000000 echo 1 > /t/x\nRUN --network=none echo 2 > /out`,
      },
    ],
  },
  {
    title: 'RUN --mount=type=secret and ssh',
    dockerfile: `${from}\nRUN --mount=type=secret,id=word test -s /run/secrets/word && echo 1 > /out\nRUN --mount=type=secret,id=word,env=WORD test -n "$WORD"\nRUN --mount=type=ssh echo 2 > /out2`,
    prepare: (folder) => write(`${folder}-beside`, { word: 'xyzzy' }),
    flags: ({ beside }) => [{ name: 'secret', value: `id=word,src=${beside}/word` }],
    changes: [
      { what: 'another secret', change: (_, { beside }) => write(beside, { word: 'plugh' }) },
    ],
  },
  {
    title: 'ARG and ENV',
    dockerfile: `${from}\nARG USED=1\nARG UNUSED=1\nENV KEPT=1\nRUN echo $USED > /out\nCOPY a /a`,
    files: { a: '1' },
    changes: [
      { what: 'an argument', flags: () => [argument('USED', '2')] },
      {
        what: 'the variable',
        dockerfile: `${from}\nARG USED=1\nARG UNUSED=1\nENV KEPT=2\nRUN echo $USED > /out\nCOPY a /a`,
      },
    ],
  },
  {
    title: 'WORKDIR, USER and SHELL',
    dockerfile: `${from}\nWORKDIR /work\nSHELL ["/bin/sh", "-ec"]\nRUN echo 1 > out\nUSER 1:1\nWORKDIR /tmp/mine\nRUN id > /tmp/id`,
    changes: [
      {
        what: 'the user',
        dockerfile: `${from}\nWORKDIR /work\nSHELL ["/bin/sh", "-ec"]\nRUN echo 1 > out\nUSER 2:2\nWORKDIR /tmp/mine\nRUN id > /tmp/id`,
      },
      {
        what: 'the folder',
        dockerfile: `${from}\nWORKDIR /work2\nSHELL ["/bin/sh", "-ec"]\nRUN echo 1 > out`,
      },
    ],
  },
  {
    title: 'LABEL, EXPOSE, CMD, ENTRYPOINT, VOLUME, HEALTHCHECK, STOPSIGNAL, MAINTAINER',
    dockerfile: `${from}\nMAINTAINER one\nLABEL a=1\nEXPOSE 80\nVOLUME /v\nSTOPSIGNAL SIGINT\nHEALTHCHECK CMD true\nENTRYPOINT ["a"]\nCMD ["b"]\nRUN echo 1 > /out`,
    changes: [
      {
        what: 'all of them',
        dockerfile: `${from}\nMAINTAINER two\nLABEL a=2\nEXPOSE 81\nVOLUME /w\nSTOPSIGNAL SIGTERM\nHEALTHCHECK NONE\nENTRYPOINT ["c"]\nCMD ["d"]\nRUN echo 1 > /out`,
      },
    ],
  },
  {
    title: 'ADD of files and archives',
    dockerfile: `${from}\nADD a /added/\nADD --unpack=false b.tar /raw/\nADD b.tar /unpacked/\nRUN ls /added /raw /unpacked > /out`,
    files: { a: '1', 'b.tar': '' },
    changes: [{ what: 'the file', files: { a: '2' } }],
  },
  {
    title: 'ADD from HTTP',
    dockerfile: `${from}\nARG URL\nARG SUM\nADD $URL/fixed /fetched\nADD --checksum=sha256:$SUM $URL/fixed /pinned\nCOPY a /a`,
    files: { a: '1' },
    flags: ({ http, httpDigest }) => [argument('URL', http), argument('SUM', httpDigest)],
    changes: [
      {
        what: 'a file after it',
        files: { a: '2' },
        flags: ({ http, httpDigest }) => [argument('URL', http), argument('SUM', httpDigest)],
      },
    ],
  },
  {
    title: 'ONBUILD of a parent',
    dockerfile: 'ARG IMAGES\nFROM $' + '{IMAGES}/triggers:1\nRUN cat /trigger/a > /out',
    files: { a: '1', b: '1' },
    changes: [
      { what: 'a file that the trigger does not copy', files: { b: '2' } },
      { what: 'the file that it copies', files: { a: '2' } },
    ],
  },
  {
    title: 'symbolic links',
    dockerfile: `${from}\nCOPY current/a /a\nCOPY tree /tree\nCOPY alias /alias\nRUN ls -lR /tree > /out`,
    files: { 'versions/1/a': '1', 'versions/2/a': '2', 'tree/x': '1', real: '1' },
    prepare: async (folder) => {
      await symlink('versions/1', path.join(folder, 'current'))
      await symlink('x', path.join(folder, 'tree/link'))
      await symlink('real', path.join(folder, 'alias'))
    },
    changes: [
      {
        what: 'where a link in a folder goes',
        change: async (folder) => {
          await rm(path.join(folder, 'tree/link'))
          await symlink('y', path.join(folder, 'tree/link'))
        },
      },
      { what: 'the file behind a link', files: { real: '2' } },
      {
        what: 'where the link on the way goes',
        change: async (folder) => {
          await rm(path.join(folder, 'current'))
          await symlink('versions/2', path.join(folder, 'current'))
        },
      },
    ],
  },
  {
    title: 'hard links and empty files',
    dockerfile: `${from}\nCOPY pair /pair\nRUN ls /pair > /out`,
    files: { 'pair/one': '1', 'pair/empty': '' },
    prepare: (folder) => link(path.join(folder, 'pair/one'), path.join(folder, 'pair/two')),
    changes: [{ what: 'both through one name', files: { 'pair/two': '2' } }],
  },
  {
    title: 'stages that are not used, and a target',
    dockerfile: `${from} AS base\nCOPY a /a\nFROM base AS unused\nCOPY b /b\nRUN cat /b > /out\nFROM base AS wanted\nRUN cat /a > /out2`,
    files: { a: '1', b: '1' },
    flags: () => [{ name: 'target', value: 'wanted' }],
    changes: [
      { what: 'the unused stage', files: { b: '2' } },
      { what: 'another target', flags: () => [{ name: 'target', value: 'unused' }] },
    ],
  },
  {
    title: 'a base image that moves',
    dockerfile: 'ARG IMAGES\nFROM $' + '{IMAGES}/moving:1\nCOPY a /a\nRUN cat /a > /out',
    files: { a: '1' },
    changes: [{ what: 'the image behind the tag', change: (_, place) => place.moveImage() }],
  },
  {
    title: 'FROM scratch',
    dockerfile: 'FROM scratch\nCOPY a /a\nCOPY b /b\nWORKDIR /w',
    files: { a: '1', b: '1' },
    changes: [{ what: 'the first file', files: { a: '2' } }],
  },
  {
    title: 'the same content under another folder',
    dockerfile: `${from}\nCOPY one/x /x\nRUN cat /x > /out`,
    files: { 'one/x': '1', 'two/x': '1', 'two/z': '1' },
    changes: [
      { what: 'the folder in the COPY', dockerfile: `${from}\nCOPY two/x /x\nRUN cat /x > /out` },
      { what: 'the name in the COPY', dockerfile: `${from}\nCOPY two/z /x\nRUN cat /x > /out` },
    ],
  },
  {
    title: '--no-cache-filter',
    dockerfile: `${from} AS first\nRUN echo 1 > /out\nFROM first AS second\nRUN echo 2 > /out2`,
    changes: [
      {
        what: 'the wish for the second stage',
        flags: () => [{ name: 'no-cache-filter', value: 'second' }],
      },
    ],
  },
  {
    title: 'FROM a folder itself',
    dockerfile:
      'FROM tree\nCOPY --from=tools /bin/busybox /bin/busybox\nRUN ["/bin/busybox", "true"]',
    prepare: (folder) => write(`${folder}-beside`, { x: '1' }),
    flags: ({ beside, registry }) => [
      named('tree', beside),
      named('tools', `docker-image://${registry}/busybox:1`),
    ],
    changes: [{ what: 'nothing' }],
  },
]

export async function write(
  folder: string,
  files: Readonly<Record<string, string>>,
): Promise<void> {
  for (const [name, content] of Object.entries(files)) {
    const file = path.join(folder, name)
    await mkdir(path.dirname(file), { recursive: true })
    await writeFile(file, content)
  }
}
