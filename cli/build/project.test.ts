import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import test, { type ExecutionContext } from 'ava'
import type { Layers } from '../../core/config.ts'
import { HearthError } from '../../core/errors.ts'
import { findProject, normalizeName, readProjectFile } from './project.ts'

async function makeTree(t: ExecutionContext, files: Record<string, string>): Promise<string> {
  const root = await mkdtemp(path.join(os.tmpdir(), 'hearth-project-'))
  t.teardown(() => rm(root, { recursive: true, force: true }))
  for (const [name, text] of Object.entries(files)) {
    await mkdir(path.dirname(path.join(root, name)), { recursive: true })
    await writeFile(path.join(root, name), text)
  }
  return root
}

const layers = (given: Partial<Layers> = {}): Layers => ({
  flags: {},
  environment: {},
  files: [],
  ...given,
})

const nameOf = async (context: string) => (await findProject(layers(), context)).project

test('hearth.json is found in a parent folder', async (t) => {
  const root = await makeTree(t, { 'hearth.json': '{"project": "app"}', 'a/b/Dockerfile': '' })
  const file = await readProjectFile(path.join(root, 'a/b'))
  t.is(file?.path, path.join(root, 'hearth.json'))
  const found = await findProject(layers({ files: file ? [file] : [] }), root)
  t.is(found.project, 'app')
})

test('a flag and the environment beat hearth.json', async (t) => {
  const root = await makeTree(t, { 'hearth.json': '{"version": 1, "project": "app"}' })
  const file = await readProjectFile(root)
  const files = file ? [file] : []
  const environment = { HEARTH_PROJECT: 'env' }
  t.is((await findProject(layers({ files, environment }), root)).project, 'env')
  const flags = { project: 'flag' }
  t.is((await findProject(layers({ files, environment, flags }), root)).project, 'flag')
})

test('a name that is no project name is refused with file and line', async (t) => {
  const root = await makeTree(t, { 'hearth.json': '{\n  "project": "My App"\n}' })
  const file = await readProjectFile(root)
  const error = await t.throwsAsync(findProject(layers({ files: file ? [file] : [] }), root), {
    instanceOf: HearthError,
  })
  t.is(error?.message, `${root}/hearth.json:2: "My App" is no name for a project`)
  t.regex(error?.hint ?? '', /lower-case/)
})

test('a hearth.json of a newer version is refused', async (t) => {
  const root = await makeTree(t, { 'hearth.json': '{"version": 2, "project": "app"}' })
  const error = await t.throwsAsync(readProjectFile(root), { instanceOf: HearthError })
  t.is(error?.code, 'version')
})

test('without a file the git remote names the project', async (t) => {
  const config =
    '[core]\n\tbare = false\n[remote "up"]\n\turl = x/other\n[remote "origin"]\n\turl = git@host:team/My_App.git\n\tfetch = +refs\n'
  const root = await makeTree(t, { '.git/config': config, 'deep/er/Dockerfile': '' })
  t.is(await nameOf(path.join(root, 'deep/er')), 'my-app')
})

test('a worktree is named like its repository', async (t) => {
  const root = await makeTree(t, {
    'repo/.git/config': '[remote "origin"]\n\turl = https://host/team/thing\n',
    'repo/.git/worktrees/w/commondir': '../..\n',
    'w/.git': 'gitdir: ../repo/.git/worktrees/w\n',
  })
  t.is(await nameOf(path.join(root, 'w')), 'thing')
})

test('a repository without a remote is named after its folder, a plain folder after itself', async (t) => {
  const root = await makeTree(t, {
    'Repo 1/.git/config': '[core]\n',
    'Repo 1/sub/x': '',
    'plain/x': '',
  })
  t.is(await nameOf(path.join(root, 'Repo 1/sub')), 'repo-1')
  t.is(await nameOf(path.join(root, 'plain')), 'plain')
})

test('a URL is named after its last part', async (t) => {
  t.is(await nameOf('https://me:secret@example.com/team/Web.App.git#main:dir'), 'web-app')
  t.is(await nameOf('git@example.com:team/tool.git'), 'tool')
})

test('where no name can be made the error says how to give one', async (t) => {
  const error = await t.throwsAsync(findProject(layers(), '/'), { instanceOf: HearthError })
  t.is(error?.code, 'invalid-input')
  t.regex(error?.hint ?? '', /--project/)
})

test('a name is cut and cleaned to a legal one', (t) => {
  t.is(normalizeName('__Ünïcode Name__'), 'n-code-name')
  t.is(normalizeName(`${'a'.repeat(38)}-b`), 'a'.repeat(38))
  t.is(normalizeName('---'), undefined)
})
