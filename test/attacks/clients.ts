import { postStatus } from './http.ts'
import type { Threat } from './threat.ts'
import {
  ask,
  frame,
  handshake,
  openResumable,
  openSocket,
  openStream,
  RawConnection,
  statuses,
} from './wire.ts'

const KiB = 1024
const local = 'Host: 127.0.0.1'

async function openPolling(port: number, path: string) {
  const get = `GET ${path}?EIO=4&transport=polling HTTP/1.1\r\n${local}\r\nConnection: close\r\n\r\n`
  const [, sid] = /"sid":"([^"]+)"/.exec(await ask(port, get))!
  return async (body: string) => {
    const head = [`POST ${path}?EIO=4&transport=polling&sid=${sid} HTTP/1.1`, local, 'Connection: close']
    const text = `${head.join('\r\n')}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`
    return statuses(await ask(port, text))
  }
}

/** What a client can do within its session. */
export const clientThreats: readonly Threat[] = [
  {
    name: 'Engine.IO polling: a body that is too large',
    answer: '413',
    perSecond: 4,
    async attack({ publicPort }) {
      const post = await openPolling(publicPort, '/engine.io/')
      return post(`4${'x'.repeat(KiB * KiB + 1)}`)
    },
  },
  {
    name: 'Engine.IO polling: more messages, or packets, than a session may keep',
    answer: 'ended, ended',
    perSecond: 1,
    async attack({ publicPort }) {
      const ends = ['4', '6'].map(async (packet) => {
        const post = await openPolling(publicPort, '/engine.io/')
        const crowded = `${packet}\x1e`.repeat(500 * KiB).slice(0, -1)
        for (let i = 0; i < 3; i++) if ((await post(crowded)) !== '200') return 'ended'
        return 'goes on'
      })
      return (await Promise.all(ends)).join(', ')
    },
  },
  {
    name: 'Engine.IO without admission',
    answer: '400 400 200',
    perSecond: 6,
    async attack({ publicPort }) {
      const get = (query: string) =>
        ask(
          publicPort,
          `GET /engine.io/?EIO=4&transport=polling&${query} HTTP/1.1\r\n${local}\r\nConnection: close\r\n\r\n`,
        ).then(statuses)
      // The first of two is what one parser takes, the last what another does.
      return (await Promise.all([get('sid=a.b&sid='), get('sid=&sid=a.b'), get('sid=')])).join(' ')
    },
  },
  {
    name: 'upgrade and stream behind a stream that goes on',
    answer: 'nothing but the first, cut',
    perSecond: 10,
    async attack({ publicPort }) {
      const connection = new RawConnection(publicPort)
      const stream = `GET /sse HTTP/1.1\r\n${local}\r\nAccept: text/event-stream\r\n\r\n`
      // Node forgets the answer of a request that waits when an upgrade follows it.
      connection.write(stream + stream + handshake('/ws'))
      const isCut = await connection.end(5_000)
      connection.drop()
      // The test that follows sees whether anything is kept for the second one.
      const heads = statuses(connection.received.toString())
      return isCut && /^(200|cut)$/.test(heads) ? 'nothing but the first, cut' : heads
    },
  },
  {
    name: 'Socket.IO attachments',
    answer: 'close, close, close',
    perSecond: 6,
    async attack({ publicPort }) {
      const packets = ['451000-["x"]', '451-["x"]', '459999999999999999999-["x"]']
      const ends = packets.map(async (packet) => {
        const socket = await openSocket(publicPort, '/socket.io/?EIO=4&transport=websocket')
        await socket.text()
        socket.write(frame('40'))
        socket.write(frame(packet))
        // One attachment is awaited; another packet in its place breaks the protocol as too many do.
        socket.write(frame('42["x"]'))
        const end = await socket.closing()
        return end === 'open' ? end : 'close'
      })
      return (await Promise.all(ends)).join(', ')
    },
  },
  {
    name: 'token theft: that of another session',
    answer: 'recovered false, token; 403; 401',
    perSecond: 2,
    async attack(target) {
      const [victim, thief] = [await openResumable(target), await openResumable(target)]
      const tried = await openResumable(target, { session: victim.session, token: thief.token })
      const [stream, other] = [await openStream(target), await openStream(target)]
      const posted = await postStatus(target, stream.session, other.token)
      const without = await ask(
        target.publicPort,
        `POST /sse/${stream.session} HTTP/1.1\r\n${local}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`,
      )
      for (const { socket } of [victim, thief, tried]) socket.drop()
      for (const each of [stream, other]) each.stream.drop()
      return `recovered ${tried.recovered}, ${tried.reason}; ${posted}; ${statuses(without)}`
    },
  },
  {
    name: 'token theft: one that was used',
    answer: 'recovered true; then false, token',
    perSecond: 6,
    async attack(target) {
      const first = await openResumable(target)
      const owner = await openResumable(target, first)
      // The first frame behind the welcome retires the token before.
      owner.socket.write(frame('p'))
      await owner.socket.text()
      const thief = await openResumable(target, first)
      for (const { socket } of [first, owner, thief]) socket.drop()
      return `recovered ${owner.recovered}; then ${thief.recovered}, ${thief.reason}`
    },
  },
  {
    name: 'runs of pools that no route leads to',
    answer: '403; FORBIDDEN',
    // Two connections each.
    perSecond: 10,
    async attack(target) {
      const run = { name: 'story', body: 1, pool: 'premium' }
      const body = JSON.stringify(run)
      const head = ['POST /runs HTTP/1.1', local, 'Connection: close', `Content-Length: ${body.length}`]
      const posted = await ask(target.publicPort, `${head.join('\r\n')}\r\n\r\n${body}`)
      const { socket } = await openResumable(target)
      socket.write(frame(`s${JSON.stringify({ id: 1, credit: 1_000, ...run })}`))
      const { code } = JSON.parse((await socket.text()).slice(1)) as { code: string }
      socket.drop()
      return `${statuses(posted)}; ${code}`
    },
  },
  {
    name: 'subscription explosion',
    answer: 'in the 128th; BAD_REQUEST; still there',
    perSecond: 1,
    async attack({ publicPort }) {
      const socket = await openSocket(publicPort)
      socket.write(frame('explode'))
      const heard = await socket.text()
      socket.write(frame(`join ${'x'.repeat(256)}`))
      const name = await socket.text()
      socket.write(frame('still there'))
      const echo = await socket.text()
      socket.drop()
      return `${heard}; ${name}; ${echo}`
    },
  },
  {
    name: 'slow consumer',
    answer: 'held back',
    perSecond: 1,
    async attack({ publicPort }) {
      const socket = await openSocket(publicPort)
      const { socket: tcp } = socket
      tcp.pause()
      socket.write(frame(`flood ${64 * KiB * KiB}`))
      let read = 0
      // 1 KB a second.
      for (let i = 0; i < 20 && !socket.ended; i++) {
        await new Promise((resolve) => setTimeout(resolve, 100))
        read += tcp.read(100)?.length ?? 0
      }
      const state = socket.ended ? 'cut' : 'held back'
      socket.drop()
      return read < KiB * KiB ? state : `got ${read} bytes`
    },
  },
  {
    name: 'flood of messages by one that does not read',
    answer: 'not read on',
    perSecond: 0.5,
    async attack({ publicPort }) {
      const socket = await openSocket(publicPort)
      const { socket: tcp } = socket
      tcp.pause()
      const messages = Buffer.concat(Array.from({ length: 64 }, () => frame(Buffer.alloc(KiB))))
      let isHeld = false
      for (let i = 0; i < 1_000 && !isHeld; i++) {
        tcp.write(messages)
        await new Promise((resolve) => setTimeout(resolve, 2))
        isHeld = tcp.writableLength > 16 * messages.length
      }
      socket.drop()
      return isHeld ? 'not read on' : 'all was taken'
    },
  },
  {
    name: 'reconnect storm',
    answer: '101',
    perSecond: 100,
    async attack({ publicPort }) {
      const socket = new RawConnection(publicPort)
      socket.write(handshake('/ws'))
      const { status } = await socket.head()
      socket.drop()
      return String(status)
    },
  },
]
