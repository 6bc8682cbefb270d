import type { Threat } from './threat.ts'
import {
  ask,
  frame,
  handshake,
  openSocket,
  openStream,
  RawConnection,
  statuses,
  type Target,
} from './wire.ts'

const local = 'Host: 127.0.0.1'

/** Heads that two servers could read in two ways, and what each of them gets. */
const smuggled: readonly [request: string, answer: string][] = [
  [handshake('/ws', ['Content-Length: 5']).concat('GET /x'), '400'],
  [handshake('/ws', ['Transfer-Encoding: chunked']).concat('0\r\n\r\nGET /x HTTP/1.1\r\n\r\n'), '400'],
  [
    `POST /runs HTTP/1.1\r\n${local}\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\n\r\n`,
    '400',
  ],
  [`POST /runs HTTP/1.1\r\n${local}\r\nContent-Length: 0\r\nContent-Length: 40\r\n\r\n`, '400'],
  [
    `POST /runs HTTP/1.1\r\n${local}\r\nTransfer-Encoding: gzip, chunked\r\nConnection: close\r\n\r\n0\r\n\r\n`,
    '400',
  ],
  [handshake('/ws', ['Host: 10.0.0.1']), '400'],
  [handshake('http://169.254.169.254/latest/meta-data'), '400'],
  [handshake('//169.254.169.254/ws'), '400'],
  [handshake('/ws').replace('Version: 13', 'Version: 8'), '400'],
  [handshake('/ws').replace(/Sec-WebSocket-Key.*\r\n/, ''), '400'],
  [handshake('/ws').replace(/^GET/, 'POST'), '405'],
  [`GET /ws HTTP/1.1\r\n${local}\r\nX: a\nb: c\r\n\r\n`, '400'],
  [`GET /ws HTTP/1.1\r\n${local}\r\nX : a\r\n\r\n`, '400'],
  [`GET /ws HTTP/1.1\r\n${local}\r\nX: a\r\n b\r\n\r\n`, '400'],
]

const foreign = ['Origin: https://evil.example']

/** What a client can do with HTTP. */
export const httpThreats: readonly Threat[] = [
  {
    name: 'many headers',
    answer: '431, 431, 431',
    perSecond: 6,
    async attack({ publicPort }) {
      const many = Array.from({ length: 101 }, (_, i) => `x-${i}: y`)
      const long = [`x: ${'y'.repeat(20 * 1024)}`]
      const plain = `GET /sse HTTP/1.1\r\n${local}\r\nConnection: close\r\n${many.join('\r\n')}\r\n\r\n`
      const requests = [handshake('/ws', many), handshake('/ws', long), plain]
      return (await Promise.all(requests.map((text) => ask(publicPort, text).then(statuses)))).join(', ')
    },
  },
  {
    name: '`__proto__` header',
    answer: 'reaches the node as a header like others',
    perSecond: 20,
    async attack({ publicPort }) {
      const socket = await openSocket(publicPort, '/ws', ['__proto__: polluted', 'constructor: x'])
      socket.write(frame('meta'))
      const { headers } = JSON.parse(await socket.text())
      socket.drop()
      const kept = Object.hasOwn(headers, '__proto__') && headers.constructor === 'x'
      return kept ? 'reaches the node as a header like others' : JSON.stringify(headers)
    },
  },
  {
    name: 'slow headers',
    answer: '408',
    perSecond: 50,
    async attack({ publicPort }) {
      const connection = new RawConnection(publicPort)
      connection.write(`GET /ws HTTP/1.1\r\n${local}\r\nX-Slow: `)
      const drip = setInterval(() => connection.write('a'), 400)
      await connection.end()
      clearInterval(drip)
      return statuses(connection.received.toString())
    },
  },
  {
    name: 'slow body',
    answer: 'cut',
    perSecond: 20,
    async attack({ publicPort }) {
      const connection = new RawConnection(publicPort)
      connection.write(`POST /runs HTTP/1.1\r\n${local}\r\nContent-Length: 1000\r\n\r\n`)
      const drip = setInterval(() => connection.write('a'), 400)
      await connection.end()
      clearInterval(drip)
      return statuses(connection.received.toString())
    },
  },
  {
    name: 'idle TCP',
    answer: /^(408|cut)$/,
    perSecond: 50,
    async attack({ publicPort }) {
      return statuses(await ask(publicPort, ''))
    },
  },
  {
    name: 'cross-site WebSocket hijacking',
    answer: '403 403 403 403 403',
    perSecond: 4,
    async attack({ publicPort }) {
      const poll = `GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\n${local}\r\nConnection: close\r\n${foreign}\r\n\r\n`
      const requests = [
        handshake('/ws', foreign),
        handshake('/ws', ['Origin: null']),
        handshake('/engine.io/?EIO=4&transport=websocket', foreign),
        poll,
        poll.replace('/socket.io/?EIO=4&transport=polling', '/sse'),
      ]
      return (await Promise.all(requests.map((text) => ask(publicPort, text).then(statuses)))).join(' ')
    },
  },
  {
    name: 'upgrade smuggling',
    answer: smuggled.map(([, answer]) => answer).join(' '),
    perSecond: 1,
    async attack({ publicPort }) {
      const answers = smuggled.map(([request]) => ask(publicPort, request).then(statuses))
      return (await Promise.all(answers)).join(' ')
    },
  },
  {
    name: 'h2c smuggling',
    answer: 'HTTP/1.1 426, nothing else',
    perSecond: 20,
    async attack({ publicPort }) {
      const head = `GET /ws HTTP/1.1\r\n${local}\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n`
      const answer = await ask(publicPort, `${head}PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n`)
      return `HTTP/1.1 ${statuses(answer)}, ${/HTTP\/2|101/.test(answer) ? 'and more' : 'nothing else'}`
    },
  },
  {
    name: 'forged X-Forwarded-*',
    answer: '127.0.0.1, no trace of the forgery',
    perSecond: 20,
    async attack({ publicPort }) {
      const forged = ['X-Forwarded-For: 6.6.6.6', 'Forwarded: for=6.6.6.6', 'X-Real-IP: 6.6.6.6']
      const socket = await openSocket(publicPort, '/ws', [...forged, 'X-Forwarded-Host: 6.6.6.6'])
      socket.write(frame('meta'))
      const meta = await socket.text()
      socket.drop()
      const trace = meta.includes('6.6.6.6') ? 'the forgery' : 'no trace of the forgery'
      return `${JSON.parse(meta).address}, ${trace}`
    },
  },
  {
    name: 'SSE field injection',
    answer: 'one message event, nothing injected',
    perSecond: 10,
    async attack(target) {
      const { stream, session, token } = await openStream(target)
      const evil = 'x\r\n\r\nevent: evil\rid: 7\nretry: 1\u2028event: evil\n\ndata: evil\0'
      const body = Buffer.from(evil)
      const posted = await ask(target.publicPort, post(session, token, body))
      await stream.until(() => stream.received.includes('\ndata: x'))
      await stream.until(() => stream.received.lastIndexOf('\n\n') > stream.received.indexOf('\ndata: x'))
      const text = stream.received.toString()
      stream.drop()
      const injected = text.split('\n').some((line) => /^(event: evil|id: 7$|retry: 1$)/.test(line))
      const events = text.split('\n\n').filter((block) => block.includes('\ndata: x\n')).length
      return statuses(posted) === '202' && events === 1 && !injected
        ? 'one message event, nothing injected'
        : `${statuses(posted)} ${text}`
    },
  },
  {
    name: 'too many pending posts',
    answer: '429',
    perSecond: 1,
    async attack(target) {
      const { stream, session, token } = await openStream(target)
      const slow: RawConnection[] = []
      let answer = '202'
      // Bodies of which all but a byte is there; who comes when 16 are awaited is one too many.
      while (answer === '202' && slow.length < 64) {
        for (let i = 0; i < 8; i++) {
          const connection = new RawConnection(target.publicPort)
          connection.write(post(session, token, Buffer.from('x')).subarray(0, -1))
          slow.push(connection)
        }
        answer = statuses(await ask(target.publicPort, post(session, token, Buffer.from('x'))))
      }
      for (const connection of [stream, ...slow]) connection.drop()
      return answer
    },
  },
  {
    name: 'pipelined requests',
    answer: 'cut',
    perSecond: 10,
    async attack({ publicPort }) {
      const connection = new RawConnection(publicPort)
      connection.write(`GET /healthz HTTP/1.1\r\n${local}\r\n\r\n`.repeat(2_000))
      const isCut = await connection.end(5_000)
      connection.drop()
      return isCut ? 'cut' : 'goes on'
    },
  },
]

function post(session: string, token: string, body: Buffer): Buffer {
  const head = [
    `POST /sse/${session} HTTP/1.1`,
    local,
    `Authorization: Bearer ${token}`,
    'Content-Type: text/plain',
    'Connection: close',
    `Content-Length: ${body.length}`,
  ]
  return Buffer.concat([Buffer.from(`${head.join('\r\n')}\r\n\r\n`), body])
}

/** What a post of this token to that session gets. */
export async function postStatus(target: Target, session: string, token: string): Promise<string> {
  return statuses(await ask(target.publicPort, post(session, token, Buffer.from('x'))))
}
