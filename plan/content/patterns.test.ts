import test from 'ava'
import { HearthError } from '../../core/errors.ts'
import { createPatternMatcher } from './patterns.ts'
import { compileWildcards, fixedPart } from './wildcards.ts'

const matches = test.macro({
  exec(t, patterns: string[], matching: string[], others: string[]) {
    const matcher = createPatternMatcher(patterns)
    for (const file of matching) t.true(matcher.match(file).matched, `${file} matches`)
    for (const file of others) t.false(matcher.match(file).matched, `${file} does not match`)
  },
  title: (title) => title ?? '',
})

// The rules and their odd corners: github.com/moby/patternmatcher v0.6, patternmatcher_test.go.
test(
  'a name matches itself and what lies in it',
  matches,
  ['docs'],
  ['docs', 'docs/a/b'],
  ['docs2', 'a/docs'],
)
test(
  'a star stays inside one name',
  matches,
  ['*.go', 'a/*/c'],
  ['x.go', 'a/b/c', 'a/b/c/d'],
  ['a/x.go', 'a/b/b/c'],
)
test(
  'two stars go through folders',
  matches,
  ['**/x', 'a/**', 'b/**/c'],
  ['x', 'd/e/x', 'a/b/c', 'b/c', 'b/d/e/c'],
  ['a', 'xx'],
)
test(
  'two stars before a suffix match any path that ends so',
  matches,
  ['**.go'],
  ['a.go', 'b/c.go'],
  ['a.got'],
)
test('a question mark is one character', matches, ['a?c'], ['abc'], ['ac', 'a/c'])
test('ranges', matches, ['[a-c]x', '[^d]y'], ['ax', 'cx', 'ey'], ['dx', 'dy'])
test(
  'signs of regular expressions mean themselves',
  matches,
  ['a.b', '(c)+', 'd$'],
  ['a.b', '(c)+', 'd$'],
  ['axb', 'cc', 'd'],
)
test('an escaped star is a star', matches, ['a\\*b'], ['a*b'], ['axb'])
test(
  'spaces, dots and slashes around a pattern say nothing',
  matches,
  [' ./a/ ', '', 'b/../c'],
  ['a', 'a/x', 'c'],
  ['b'],
)
test(
  'later patterns take back',
  matches,
  ['*', '!keep', 'keep/not'],
  ['a', 'keep/not'],
  ['keep', 'keep/x'],
)
test(
  'what is taken back can be matched again',
  matches,
  ['a', '!a/b', 'a/b/c'],
  ['a/x', 'a/b/c'],
  ['a/b', 'a/b/d'],
)

test('the match of a folder carries over to what lies in it', (t) => {
  const matcher = createPatternMatcher(['a', '!a/b/c'])
  const folder = matcher.match('a')
  const below = matcher.match('a/b', folder)
  t.true(below.matched)
  t.false(matcher.match('a/b/c', below).matched)
})

test('folders in which nothing can match need not be read', (t) => {
  const matcher = createPatternMatcher(['src/lib/*.ts', '!docs/**/keep'])
  t.true(matcher.mayMatchBelow('src'))
  t.true(matcher.mayMatchBelow('src/lib'))
  t.false(matcher.mayMatchBelow('src/other'))
  t.false(matcher.mayMatchBelow('docs'))
  t.true(matcher.mayTakeBackBelow('docs/a/b'))
  t.false(matcher.mayTakeBackBelow('src'))
})

test('what is no pattern is refused', (t) => {
  t.throws(() => createPatternMatcher(['!']), { instanceOf: HearthError })
  t.throws(() => createPatternMatcher(['[a']), { instanceOf: HearthError })
  t.throws(() => compileWildcards('/a['), { instanceOf: HearthError })
})

test('wildcards of COPY match whole paths', (t) => {
  const match = compileWildcards('/a*/[b-d]?.txt')
  t.true(match('/a/bx.txt'))
  t.true(match('/abc/dx.txt'))
  t.false(match('/a/b/x.txt'))
  t.false(match('/a/ex.txt'))
  t.false(match('/a/bx.txt/more'))
  t.is(fixedPart('/x/y/a*/z'), '/x/y')
  t.is(fixedPart('/*'), '')
})
