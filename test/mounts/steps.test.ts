/** Cache mounts through real steps: what one BuildKit has gathered is there when the next one starts with nothing. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import anyTest, { type TestFn } from 'ava'
import { type Builder, startBuilder } from '../proxy/builder.ts'
import { clientKinds, createContext } from '../proxy/context.ts'

const test = anyTest as TestFn<{ builder: Builder }>

test.before(async (t) => {
  t.context.builder = await startBuilder()
})

test.after.always(async (t) => {
  await t.context.builder?.[Symbol.asyncDispose]()
})

let turn = 0

/** Runs one step with the mount; its output is what it prints. */
async function runStep(
  { builder }: { builder: Builder },
  command: string,
  options: { mount?: string; noCache?: boolean } = {},
): Promise<string> {
  const { mount = 'target=/cache' } = options
  turn += 1
  await using context = await createContext(
    [
      'FROM base',
      `RUN --mount=type=cache,${mount} echo turn ${turn}; { ${command}; } 2>&1 | sed 's/^/out: /'`,
    ].join('\n'),
  )
  const result = await builder.through.buildx(clientKinds.buildx(context.path, options))
  if (result.exitCode !== 0) throw new Error(result.stderr)
  await builder.settled()
  await builder.mounts.idle()
  return [...result.stderr.matchAll(/^#\d+ [\d.]+ out: (.*)/gm)].map(([, line]) => line).join('\n')
}

const list = 'cd /cache && find . -exec stat -c "%n %a %u %g %Y %F %N" {} + | sort'

test.serial('a fresh BuildKit finds the mount as it was left', async (t) => {
  await runStep(
    t.context,
    [
      'cd /cache; mkdir -p a/b; echo one >a/b/one; chown 7:8 a/b/one; chmod 4751 a/b/one',
      'ln -s b/one a/link; ln a/b/one a/hard; ln -s /etc/passwd out; touch -d "2001-02-03 04:05:06" a/b/one a',
      'printf x >"trailing "; printf y >"$(printf "line\\\\nfeed")"; printf z >-dash; chmod 700 a/b; mkfifo pipe',
      'rm pipe',
    ].join('; '),
  )
  const before = await runStep(t.context, list)
  t.true(before.includes('./a/hard 4751 7 8'))
  await t.context.builder.forgetBuildkit()
  t.is(await runStep(t.context, list), before)
})

test.serial(
  'a step that ignores the cache gets an empty mount, and what it leaves is what counts',
  async (t) => {
    t.is(await runStep(t.context, 'ls -A /cache', { noCache: true }), '')
    await runStep(t.context, 'echo new >/cache/new')
    await t.context.builder.forgetBuildkit()
    t.is(await runStep(t.context, 'ls -A /cache'), 'new')
  },
)

test.serial('a mount that begins with another owner and mode travels', async (t) => {
  const mount = 'id=owned,target=/owned,uid=12,gid=34,mode=0750'
  await runStep(t.context, 'echo mine >/owned/file', { mount })
  await t.context.builder.forgetBuildkit()
  t.is(
    await runStep(t.context, 'cat /owned/file; stat -c "%a %u %g" /owned', { mount }),
    'mine\n750 12 34',
  )
  await runStep(t.context, 'echo more >/owned/more', { mount })
  await t.context.builder.forgetBuildkit()
  t.is(await runStep(t.context, 'cd /owned && cat file more', { mount }), 'mine\nmore')
})

test.serial('steps that share a mount begin together with all of it', async (t) => {
  const { builder } = t.context
  await runStep(t.context, 'cd /cache; rm -rf *; for n in $(seq 200); do echo $n >$n; done')
  await builder.forgetBuildkit()
  turn += 1
  const stages = ['left', 'right'].map(
    (name) =>
      `FROM base AS ${name}\nRUN --mount=type=cache,target=/cache echo turn ${turn} ${name}; echo out: $(ls /cache | wc -l); ls /cache | wc -l >/${name}`,
  )
  await using context = await createContext(
    [...stages, 'FROM base', 'COPY --from=left /left /', 'COPY --from=right /right /'].join('\n'),
  )
  const { stderr, exitCode } = await builder.through.buildx(clientKinds.buildx(context.path))
  t.is(exitCode, 0, stderr)
  await builder.settled()
  await builder.mounts.idle()
  t.deepEqual(
    [...stderr.matchAll(/^#\d+ [\d.]+ out: (.*)/gm)].map(([, line]) => line),
    ['200', '200'],
  )
})

test.serial('what a killed step has left is in no snapshot', async (t) => {
  const { builder } = t.context
  await runStep(t.context, 'cd /cache; rm -rf *; echo sound >sound')
  turn += 1
  await using context = await createContext(
    `RUN --mount=type=cache,target=/cache echo turn ${turn}; echo half >/cache/torn; sleep 600`,
  )
  const command = builder.through.buildxCommand(clientKinds.buildx(context.path))
  const child = spawn(command.command, command.args, {
    env: command.env,
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const ended = once(child, 'exit')
  await builder.running(`turn ${turn}`)
  // The file is there a moment after the container.
  const limit = AbortSignal.timeout(60_000)
  while (!(await hasTorn(builder))) limit.throwIfAborted()
  child.kill('SIGINT')
  await ended
  await builder.settled()
  await builder.mounts.idle()
  t.is(await runStep(t.context, 'ls /cache; echo after >/cache/after'), 'sound\ntorn')
  await builder.forgetBuildkit()
  t.is(await runStep(t.context, 'ls /cache'), 'after\nsound')
})

/** Whether any mount of the running BuildKit has the file. */
async function hasTorn(builder: Builder): Promise<boolean> {
  const found = await builder.mountFiles()
  return found.some((file) => path.basename(file) === 'torn')
}

test.serial(
  'a mount whose filling was broken off is filled anew before a step sees it',
  async (t) => {
    const { builder } = t.context
    const mount = 'id=half,target=/half,uid=5'
    await runStep(t.context, 'echo whole >/half/whole', { mount })
    // As a node leaves it that is killed while it moves the content in.
    const whole = (await builder.mountFiles()).find((file) => path.basename(file) === 'whole')
    if (whole === undefined) return t.fail()
    await writeFile(path.join(path.dirname(whole), 'half'), '')
    for (const name of await readdir(builder.localMountsFolder)) {
      if (!/^[0-9a-f]{64}$/.test(name)) continue
      await writeFile(path.join(builder.localMountsFolder, `${name}.filling`), '')
    }
    t.is(await runStep(t.context, 'ls /half', { mount }), 'whole')
  },
)

test.serial(
  "a mount that begins with somebody's content is left alone, one that is read-only is filled",
  async (t) => {
    const { builder } = t.context
    const from = 'id=from,target=/from,from=base,source=/bin'
    t.is(
      await runStep(t.context, 'ls /from/busybox; echo new >/from/new', { mount: from }),
      '/from/busybox',
    )
    t.false(builder.mounts.list().some(({ id }) => id === 'from'))
    await runStep(t.context, 'echo kept >/kept/file', { mount: 'id=kept,target=/kept' })
    await builder.forgetBuildkit()
    t.is(
      await runStep(t.context, 'ls /from/new /from/busybox', { mount: from }).then((said) =>
        said.includes('/from/busybox'),
      ),
      true,
    )
    t.is(
      await runStep(t.context, 'cat /kept/file', { mount: 'id=kept,target=/kept,readonly' }),
      'kept',
    )
  },
)

test.serial('a step does not reach the socket on which the node hears of steps', async (t) => {
  await runStep(t.context, 'cd /cache; rm -rf *; echo mine >mine')
  // Whatever a step can see of the machine's sockets: files of any kind of socket in its own tree.
  const sockets = await runStep(
    t.context,
    'find / -xdev -type s 2>/dev/null; cat /proc/net/unix | grep -c steps',
  )
  t.is(sockets.split('\n').at(-1), '0')
  t.false(sockets.includes('.steps'))
})

test.serial(
  'mounts are listed, and one that is reset is empty, here and where it would have gone',
  async (t) => {
    const { builder } = t.context
    const mount = 'id=listed,target=/anywhere'
    await runStep(t.context, 'head -c 1000 /dev/zero >/anywhere/file', { mount })
    const [listed] = builder.mounts.list().filter(({ id }) => id === 'listed')
    t.like(listed, { kind: 'newest', bytes: 1000, files: 1, snapshots: 1 })
    t.true(Date.now() - (listed?.lastUsedAtMs ?? 0) < 600_000)
    t.is(await builder.mounts.reset('app', 'listed'), 1)
    t.is(await runStep(t.context, 'ls -A /anywhere', { mount }), '')
    await builder.forgetBuildkit()
    t.is(await runStep(t.context, 'ls -A /anywhere', { mount }), '')
  },
)
