/**
 * A program: listens where it is told, answers every request, and says on standard output who came. Started
 * inside a namespace, it is what an attack tries to reach, or what builds may reach.
 *
 * Arguments: NAME=ADDRESS:PORT… . A path that holds `/to-HEX` is redirected to the URL that HEX spells, with
 * the rest of the path behind it. `/note/TEXT` prints the text. `/gone/NAME` waits until somebody has asked
 * for `/go/NAME`.
 */
import { EventEmitter, once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'

const say = (line: Record<string, string>): void => {
  process.stdout.write(`${JSON.stringify(line)}\n`)
}
const gone = new EventEmitter()
const went = new Set<string>()

async function answer(name: string, path: string, response: ServerResponse): Promise<void> {
  // Whoever comes again is to be seen again.
  response.setHeader('connection', 'close')
  const redirect = /\/to-([0-9a-f]+)(.*)$/.exec(path)
  if (redirect?.[1] !== undefined) {
    const location = Buffer.from(redirect[1], 'hex').toString() + (redirect[2] ?? '')
    response.writeHead(302, { location }).end()
    return
  }
  const [, verb, text = ''] = path.split('/')
  if (verb === 'note') say({ note: decodeURIComponent(text) })
  if (verb === 'go') {
    went.add(text)
    gone.emit(text)
  }
  if (verb === 'gone' && !went.has(text)) await once(gone, text)
  response.end(`this is ${name}`)
}

let pending = 0
for (const argument of process.argv.slice(2)) {
  const [name = '', place = ''] = argument.split('=')
  const at = place.lastIndexOf(':')
  const server = createServer((request, response) => {
    void answer(name, request.url ?? '/', response)
  })
  server.on('connection', (socket) => say({ hit: name, from: socket.remoteAddress ?? '' }))
  pending += 1
  server.listen(Number(place.slice(at + 1)), place.slice(0, at).replaceAll(/[[\]]/g, ''), () => {
    pending -= 1
    if (pending === 0) say({ state: 'listening' })
  })
}
