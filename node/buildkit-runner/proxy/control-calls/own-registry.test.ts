import test from 'ava'
import { fieldBytes, fieldText } from '../../../../proto/wire.ts'
import { ownRegistry } from './own-registry.ts'

const registry = ownRegistry('hearth.cache:45123')

for (const name of [
  'hearth.cache:45123/abc/cache:record',
  'HEARTH.Cache:45123/abc/cache:record',
  'hearth.cache.:45123/abc',
  'hearth.cache/abc',
  'http://hearth.cache:45123/v2/',
  'https://user:word@hearth.cache:045123?x',
  '127.0.0.2:45123/abc',
  'http://[::ffff:127.0.0.2]:45123/',
  'http://[0:0:0:0:0:FFFF:7f00:0002]:45123/',
  'http://ｈearth.cache:45123/v2/',
  'http://hearth。cache:45123/v2/',
  'example.com/image,"hearth.cache:45123/abc"',
]) {
  test(`${name} names the node's own registry`, (t) => {
    t.true(registry.isNamedBy(name))
  })
}

for (const name of [
  '',
  'gha',
  'registry.example.com/hearth.cache:1',
  'hearth.cache.example.com:45123/x',
  'myhearth.cache:45123/x',
  'localhost:45123/x',
  '127.0.0.1:45123/x',
  '127.0.0.2:4512/x',
  'https://example.com/?from=hearth.cache:45123',
]) {
  test(`"${name}" names something else`, (t) => {
    t.false(registry.isNamedBy(name))
  })
}

test('the denial is one rule that denies by regular expression', (t) => {
  const [rule, ...others] = fieldBytes(registry.denial, 2)
  t.deepEqual(others, [])
  const denied = new RegExp(identifierOf(rule ?? Buffer.alloc(0)), 'i')
  t.regex('docker-image://hearth.cache:45123/abc/cache:record', denied)
  t.regex('docker-image+blob://hearth.cache:45123/abc@sha256:0', denied)
  t.regex('git://127.0.0.2:45123/abc', denied)
  t.notRegex('docker-image://example.com/hearth.cache:45123', denied)
  t.notRegex('hearth.cache:45123/abc', denied)
})

function identifierOf(rule: Uint8Array): string {
  const selector = fieldBytes(rule, 2).at(-1) ?? Buffer.alloc(0)
  return fieldText(selector, 1).replace('(?i)', '')
}
