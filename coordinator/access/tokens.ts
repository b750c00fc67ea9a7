/** Bearer tokens: `hth_ID_SECRET`, of which only the secret's sha256 is kept. */
import { createHash, timingSafeEqual } from 'node:crypto'
import { HearthError } from '../../core/errors.ts'
import { descriptionCharactersMax, joinTokenMs } from '../limits.ts'
import { newId, type State, type TokenRecord } from '../state/index.ts'
import type { NewToken, Tokens } from './index.ts'

const pattern = /^hth_([a-z2-7]{8})_([a-z2-7]{52})$/
const idCharacters = 8
/** 260 bits. */
const secretCharacters = 52

export function createTokens(deps: { state: State }, options: { now?: () => number } = {}): Tokens {
  const { state } = deps
  const now = options.now ?? Date.now

  function create(description: string, record: (base: TokenBase) => TokenRecord): NewToken {
    const id = newId(idCharacters)
    const secret = newId(secretCharacters)
    const base = {
      id,
      secretHash: hashSecret(secret),
      description: description.slice(0, descriptionCharactersMax),
      createdAtMs: now(),
    }
    state.tokens.put(id, record(base))
    return { id, token: `hth_${id}_${secret}` }
  }

  function find(token: string): TokenRecord | undefined {
    const [, id = '', secret = ''] = pattern.exec(token) ?? []
    const record = id === '' ? undefined : state.tokens.get(id)
    const expected = record?.secretHash ?? hashSecret('')
    const equal = timingSafeEqual(hashSecret(secret), expected)
    return equal ? record : undefined
  }

  return {
    createOperator: (description) => create(description, (base) => ({ ...base, type: 'operator' })),
    createProject: (scope, description) =>
      create(description, (base) => ({ ...base, type: 'project', ...scope })),
    createJoin: () =>
      create('lets one node in', (base) => ({
        ...base,
        type: 'join',
        expiresAtMs: base.createdAtMs + joinTokenMs,
      })),
    verify(token) {
      const record = find(token)
      if (record?.type === 'operator') return { type: 'operator', tokenId: record.id }
      if (record?.type === 'project') {
        const scope = { project: record.project, line: record.line }
        return { type: 'project', tokenId: record.id, scope }
      }
      throw new HearthError('unauthenticated', 'the token is not valid here', {
        hint:
          record === undefined
            ? 'check HEARTH_TOKEN or log in again with "hearth login"'
            : 'this one lets a node join; ask for a token of a project',
      })
    },
    spendJoin(token, publicKeyHash, chooseNodeId) {
      return state.write(() => {
        const record = find(token)
        if (record?.type !== 'join') throw notLetIn('the join token is not valid here')
        if (record.expiresAtMs < now()) throw notLetIn('the join token has expired')
        if (record.usedBy !== undefined) {
          if (record.usedBy.publicKeyHash === publicKeyHash) return record.usedBy.nodeId
          throw notLetIn('the join token has been used')
        }
        const nodeId = chooseNodeId()
        state.tokens.put(record.id, { ...record, usedBy: { nodeId, publicKeyHash } })
        return nodeId
      })
    },
    revoke(id) {
      state.write(() => {
        if (state.tokens.get(id) === undefined) {
          throw new HearthError('not-found', `there is no token "${id.slice(0, 60)}"`, {
            hint: 'the id is the part of a token between its underscores',
          })
        }
        state.tokens.remove(id)
      })
    },
    prune() {
      const over = state.tokens
        .list()
        .filter((record) => record.type === 'join' && record.expiresAtMs < now())
      if (over.length === 0) return
      state.write(() => {
        for (const { id } of over) state.tokens.remove(id)
      })
    },
  }
}

type TokenBase = Pick<TokenRecord, 'id' | 'secretHash' | 'description' | 'createdAtMs'>

function hashSecret(secret: string): Buffer {
  return createHash('sha256').update(secret).digest()
}

function notLetIn(message: string): HearthError {
  return new HearthError('unauthenticated', message, {
    hint: 'take a new one from the coordinator; each lets one node in, within an hour',
  })
}
