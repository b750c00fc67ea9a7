/**
 * Who may import whom. Imports point down only, so that a room can be read, tested and replaced with
 * nothing above it; coordinator and node meet in proto and mesh alone.
 */

/** A folder, or a file without its ending. Where several match, the longest is a file's room. */
export const rules: readonly { room: string; mayImport: readonly string[] }[] = [
  { room: 'core', mayImport: [] },
  { room: 'proto', mayImport: ['core'] },
  { room: 'mesh', mayImport: ['proto', 'core'] },
  { room: 'plan', mayImport: ['proto', 'core'] },

  { room: 'node/cache-store', mayImport: ['mesh', 'plan', 'proto', 'core'] },
  { room: 'node/scheduler', mayImport: ['plan', 'proto', 'core'] },
  {
    room: 'node/buildkit-runner',
    mayImport: ['node/scheduler', 'node/cache-store', 'mesh', 'plan', 'proto', 'core'],
  },
  {
    room: 'node',
    mayImport: [
      'node/scheduler',
      'node/buildkit-runner',
      'node/cache-store',
      'mesh',
      'plan',
      'proto',
      'core',
    ],
  },
  { room: 'coordinator', mayImport: ['mesh', 'proto', 'core'] },

  { room: 'cli', mayImport: ['plan', 'proto', 'core'] },
  // One check of the doctor asks the object store as a node would; that too needs neither root nor Linux.
  { room: 'cli/doctor/object-store', mayImport: ['cli', 'node/cache-store', 'core'] },
  // The four verbs that start daemons or measurements. The rest of the client needs neither root nor Linux.
  ...['up', 'coordinator', 'node', 'bench'].map((verb) => ({
    room: `cli/commands/${verb}`,
    mayImport: ['cli', 'coordinator', 'node', 'mesh', 'bench', 'plan', 'proto', 'core'],
  })),

  { room: 'tools', mayImport: ['core'] },
  { room: 'bench', mayImport: ['*'] },
  { room: 'test', mayImport: ['*'] },
]

/** What tests that stand beside the code, and their fixtures, may import on top of their room's rule. */
const testsMayImport = ['test']

export type Verdict = { type: 'allowed' } | { type: 'refused'; reason: string }

/**
 * @param from file that imports, and `to` the file it imports: paths relative to the repository, with "/".
 */
export function judgeImport(from: string, to: string): Verdict {
  if (!to.includes('/')) return { type: 'allowed' } // package.json and the like
  const fromRule = ruleOf(from)
  if (fromRule === undefined) return refused(`${from} is in no room`)
  const toRule = ruleOf(to)
  if (toRule === undefined) return refused(`${to} is in no room`)
  if (fromRule.room === toRule.room) return { type: 'allowed' }
  // A part of a room sees its whole: cli/main.ts loads cli/commands/up.ts.
  if (toRule.room.startsWith(`${fromRule.room}/`) && fromRule.room === 'cli') {
    return { type: 'allowed' }
  }
  const extra = /\.(test|fixture)\.ts$/.test(from) ? testsMayImport : []
  const may = [...fromRule.mayImport, ...extra]
  if (may.includes('*') || may.some((room) => isInside(to, room))) return { type: 'allowed' }
  return refused(`${fromRule.room} may not import ${toRule.room}`)
}

function refused(reason: string): Verdict {
  return { type: 'refused', reason }
}

function ruleOf(file: string): (typeof rules)[number] | undefined {
  return rules
    .filter((rule) => isInside(file, rule.room))
    .sort((a, b) => b.room.length - a.room.length)[0]
}

function isInside(file: string, room: string): boolean {
  return file.startsWith(`${room}/`) || file.replace(/(\.test)?\.ts$/, '') === room
}
