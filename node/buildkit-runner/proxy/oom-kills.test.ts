import test from 'ava'
import { parseOomKills } from './oom-kills.ts'

const bootedAtMs = 1_000_000

/** As Linux 6.18 writes them, shortened where nothing is read. */
function records(options: { constraint: string; group: string; atMicroseconds: number }): string[] {
  const { constraint, group, atMicroseconds } = options
  return [
    `6,7929,${atMicroseconds},-;oom-kill:constraint=${constraint},nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/hearth-a,task_memcg=${group},task=a,b c,pid=77,uid=0\n`,
    `3,7930,${atMicroseconds + 40},-;Memory cgroup out of memory: Killed process 77 (a,b c) total-vm:211880kB, anon-rss:2048kB, file-rss:6692kB\n`,
  ]
}

const inGroup = { controlGroup: 'hearth-a', sinceMs: 1_005_000, bootedAtMs }

test('a kill below the group is found with the name, the size and the time', (t) => {
  for (const group of ['/hearth-a/x', '/hearth-a', '/docker/1234/hearth-a/x/y']) {
    const written = records({ constraint: 'CONSTRAINT_MEMCG', group, atMicroseconds: 7_000_000 })
    t.deepEqual(parseOomKills(written, inGroup), [
      { atMs: 1_007_000, process: 'a,b c', bytes: 2 * 1024 * 1024, isMachineWide: false },
    ])
  }
})

test('other groups and earlier kills are not counted', (t) => {
  const constraint = 'CONSTRAINT_MEMCG'
  for (const group of ['/hearth-ab/x', '/other', '/']) {
    const written = records({ constraint, group, atMicroseconds: 7_000_000 })
    t.deepEqual(parseOomKills(written, inGroup), [])
  }
  const early = records({ constraint, group: '/hearth-a/x', atMicroseconds: 4_000_000 })
  t.deepEqual(parseOomKills(early, inGroup), [])
})

test('a machine without memory is told from a limit, and a size that is missing is unknown', (t) => {
  const [kill = ''] = records({
    constraint: 'CONSTRAINT_NONE',
    group: '/hearth-a/x',
    atMicroseconds: 7_000_000,
  })
  const [found] = parseOomKills([kill, 'garbage', ''], inGroup)
  t.like(found, { isMachineWide: true, bytes: undefined })
})
