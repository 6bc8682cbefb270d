import { once } from 'node:events'
import { request } from 'node:http'
import type { Server } from 'socket.io'
import { afterAll, describe, expect, test } from 'vitest'
import { engineIoTargets, maxPayload, Servers, socketIoTargets } from '../support/conformance.ts'
import { connectWire, type Piece, PollingWire, WebSocketWire, type Wire } from '../support/engine-wire.ts'

/** Engine.IO 4 as its protocol says it, asked of servers without a gateway and of gateways: the same of both. */

const echoApp = (io: Server) => {
  io.on('connection', (socket) => {
    socket.on('echo', (...args) => socket.emit('echo', ...args))
  })
}

/** What the echo of a target takes for a text and for bytes. */
interface Dialect {
  begin(wire: Wire): Promise<void>
  text(text: string): Piece[]
  bytes(bytes: Buffer): Piece[]
}

const plainMessages: Dialect = {
  async begin() {},
  text: (text) => [`4${text}`],
  bytes: (bytes) => [bytes],
}

const packets: Dialect = {
  async begin(wire) {
    await wire.send('40')
    await wire.next(1)
  },
  text: (text) => [`42${JSON.stringify(['echo', text])}`],
  bytes: (bytes) => ['451-["echo",{"_placeholder":true,"num":0}]', bytes],
}

const targets = [
  ...engineIoTargets.map((target) => ({ ...target, dialect: plainMessages })),
  ...socketIoTargets.map((target) => ({ ...target, dialect: packets })),
]

const transports = ['polling', 'websocket'] as const

/** What answers say, as far as clients look at it. */
const refusals = {
  unknownTransport: { code: 0, message: 'Transport unknown' },
  unknownSession: { code: 1, message: 'Session ID unknown' },
  badMethod: { code: 2, message: 'Bad handshake method' },
  badRequest: { code: 3, message: 'Bad request' },
  version: { code: 5, message: 'Unsupported protocol version' },
}

describe.each(targets)('$name', (target) => {
  const { dialect } = target
  const servers = new Servers(target, echoApp)
  afterAll(() => servers.stop())

  async function begin(base: string, transport: (typeof transports)[number]): Promise<Wire> {
    const wire = await connectWire(base, transport)
    await dialect.begin(wire)
    return wire
  }

  describe('handshake', () => {
    test('over polling', async () => {
      const answer = await fetch(`${await servers.base()}?EIO=4&transport=polling`)
      expect(answer.status).toBe(200)
      expect(answer.headers.get('content-type')).toBe('text/plain; charset=UTF-8')
      const text = await answer.text()
      expect(text[0]).toBe('0')
      expect(JSON.parse(text.slice(1))).toEqual({
        sid: expect.stringMatching(/^[\w.-]+$/),
        upgrades: ['websocket'],
        pingInterval: 25_000,
        pingTimeout: 20_000,
        maxPayload,
      })
    })

    test('over WebSocket, from which there is nothing to upgrade to', async () => {
      const wire = await WebSocketWire.open(await servers.base())
      const [open] = (await wire.next(1)) as [string]
      expect(open[0]).toBe('0')
      expect(JSON.parse(open.slice(1))).toMatchObject({ upgrades: [], maxPayload })
    })

    test('gives each client an id of its own', async () => {
      const base = await servers.base()
      const wires = await Promise.all([1, 2, 3, 4].map(() => PollingWire.open(base)))
      expect(new Set(wires.map(({ opened }) => opened.sid)).size).toBe(4)
    })

    test.each([
      ['without a version', 'GET', 'transport=polling', refusals.version],
      ['with a version that is no number', 'GET', 'EIO=abc&transport=polling', refusals.version],
      ['with version 3', 'GET', 'EIO=3&transport=polling', refusals.version],
      ['without a transport', 'GET', 'EIO=4', refusals.unknownTransport],
      ['with an unknown transport', 'GET', 'EIO=4&transport=pigeon', refusals.unknownTransport],
      ['by POST', 'POST', 'EIO=4&transport=polling', refusals.badMethod],
      ['by PUT', 'PUT', 'EIO=4&transport=polling', refusals.badMethod],
      ['by WebSocket without an upgrade', 'GET', 'EIO=4&transport=websocket', refusals.badRequest],
      ['with an unknown id', 'GET', 'EIO=4&transport=polling&sid=nobody', refusals.unknownSession],
      ['with an unknown id, by POST', 'POST', 'EIO=4&transport=polling&sid=nobody', refusals.unknownSession],
    ])('%s is refused', async (_what, method, query, refusal) => {
      const answer = await fetch(`${await servers.base()}?${query}`, { method })
      expect([answer.status, await answer.json()]).toEqual([400, refusal])
    })

    test.each([
      ['without a version', 'transport=websocket'],
      ['with a version that is no number', 'EIO=abc&transport=websocket'],
      ['without a transport', 'EIO=4'],
      ['with an unknown transport', 'EIO=4&transport=pigeon'],
      ['with an unknown id', 'EIO=4&transport=websocket&sid=nobody'],
    ])('a WebSocket %s is closed', async (_what, query) => {
      const wire = new WebSocketWire(await servers.base(), query)
      expect(await wire.isOver()).toBe(true)
      expect(wire.received.items).toEqual([])
    })

    test('pages of other origins are told that they may', async () => {
      const url = `${await servers.base()}?EIO=4&transport=polling`
      const headers = { origin: 'https://app.example', 'access-control-request-method': 'POST' }
      for (const method of ['OPTIONS', 'GET']) {
        const answer = await fetch(url, { method, headers })
        expect(answer.ok).toBe(true)
        expect(answer.headers.get('access-control-allow-origin')).toBe('https://app.example')
        expect(answer.headers.get('access-control-allow-credentials')).toBe('true')
      }
    })
  })

  describe('messages', () => {
    const all = [
      ...dialect.text('one'),
      ...dialect.text('zwei, três, четыре, 五, 🕊'),
      ...dialect.bytes(Buffer.from([0, 1, 0xfe, 0xff])),
      ...dialect.text('and more'),
      ...dialect.bytes(Buffer.alloc(5_000, 7)),
      ...dialect.bytes(Buffer.alloc(0)),
    ]

    test.each(transports)('text and bytes come back in order over %s', async (transport) => {
      const wire = await begin(await servers.base(), transport)
      await wire.send(...all)
      expect(await wire.next(all.length)).toEqual(all)
      for (const piece of dialect.text('again')) await wire.send(piece)
      expect(await wire.next(1)).toEqual(dialect.text('again'))
    })

    test('a POST is answered ok, and bytes are base64 behind a b', async () => {
      const wire = (await begin(await servers.base(), 'polling')) as PollingWire
      const [header] = dialect.bytes(Buffer.alloc(0)).filter((piece) => typeof piece === 'string')
      const body = header === undefined ? 'bAQID' : `${header}\x1ebAQID`
      expect(await wire.post(body)).toEqual({ status: 200, text: 'ok' })
      const answers: string[] = []
      while (answers.join('\x1e') !== body) {
        answers.push((await wire.poll()).text)
        expect(body.startsWith(answers.join('\x1e'))).toBe(true)
      }
    })

    test.each(transports)('what is no packet ends the session over %s', async (transport) => {
      const wire = await begin(await servers.base(), transport)
      await wire.send('abc').catch(() => {})
      expect(await wire.isOver()).toBe(true)
    })

    test('a payload above maxPayload is refused', async () => {
      const base = await servers.base()
      const wire = await PollingWire.open(base)
      const { status } = await wire.post(`4${'x'.repeat(maxPayload)}`)
      expect(status).toBe(413)
      const socket = await WebSocketWire.start(base)
      await socket.send(`4${'x'.repeat(maxPayload)}`)
      expect(await socket.closed).toBe(1009)
    })
  })

  describe('requests that must not be', () => {
    test('a second poll beside the first is refused and ends the session', async () => {
      const wire = await PollingWire.open(await servers.base())
      const first = wire.poll()
      // Which of the two comes first is the network's business.
      const both = await Promise.all([first, wire.poll()])
      const ended = both.findIndex(({ text }) => text === '1')
      expect(both[ended]?.status).toBe(200)
      // The protocol says 400, and engine.io 500.
      expect([400, 500]).toContain(both[1 - ended]!.status)
      expect((await wire.poll()).status).toBe(400)
    })

    test('a second POST beside the first is refused and ends the session', async () => {
      const wire = await PollingWire.open(await servers.base())
      const first = request(wire.url, { method: 'POST', headers: { 'content-length': '100' } })
      first.on('error', () => {})
      first.write('4half of')
      await once(first, 'socket')
      let status: number
      // The first one may not have arrived yet.
      do status = (await wire.post('3')).status
      while (status === 200)
      expect([400, 500]).toContain(status)
      expect((await wire.poll()).status).toBe(400)
      first.destroy()
    })

    test('a poll that the client gives up ends the session', async () => {
      const wire = await PollingWire.open(await servers.base())
      const giveUp = new AbortController()
      const poll = wire.poll({ signal: giveUp.signal })
      setTimeout(() => giveUp.abort(), 50)
      await expect(poll).rejects.toThrow('abort')
      expect(await wire.isOver()).toBe(true)
    })
  })

  describe('heartbeat', () => {
    test.each(transports)('a client that answers stays, over %s', async (transport) => {
      const wire = await connectWire(await servers.base({ pingInterval: 100 }), transport)
      for (let i = 0; i < 3; i++) {
        if (wire instanceof PollingWire) expect(await wire.poll()).toEqual({ status: 200, text: '2' })
        else expect(await wire.next(1)).toEqual(['2'])
        await wire.send('3')
      }
    })

    test.each(transports)('a client that does not is dropped, over %s', async (transport) => {
      const wire = await connectWire(await servers.base({ pingInterval: 100, pingTimeout: 100 }), transport)
      expect(await wire.isOver()).toBe(true)
    })
  })

  describe('close', () => {
    test('a close packet over polling ends the session and the waiting poll', async () => {
      const wire = await PollingWire.open(await servers.base())
      const poll = wire.poll()
      expect(await wire.post('1')).toEqual({ status: 200, text: 'ok' })
      // The POST may have come first; then there is no session to poll.
      expect(await poll).toEqual(
        expect.toBeOneOf([
          { status: 200, text: '6' },
          { status: 400, text: JSON.stringify(refusals.unknownSession) },
        ]),
      )
      expect((await wire.poll()).status).toBe(400)
    })

    test('a WebSocket that is closed ends the session', async () => {
      const base = await servers.base()
      const wire = await WebSocketWire.open(base)
      const [open] = (await wire.next(1)) as [string]
      const { sid } = JSON.parse(open.slice(1)) as { sid: string }
      wire.ws.close()
      await wire.closed
      const again = new WebSocketWire(base, `EIO=4&transport=websocket&sid=${sid}`)
      expect(await again.isOver()).toBe(true)
      expect(again.received.items).toEqual([])
    })
  })

  describe('upgrade', () => {
    const probed = async (base: string, sid: string) => {
      const socket = await WebSocketWire.open(base, `&sid=${sid}`)
      await socket.send('2probe')
      expect(await socket.next(1)).toEqual(['3probe'])
      return socket
    }

    test('the probe is answered, the waiting poll ends, messages go over the WebSocket', async () => {
      const base = await servers.base()
      const polling = (await begin(base, 'polling')) as PollingWire
      const poll = polling.poll()
      const socket = await probed(base, polling.opened.sid)
      expect(await poll).toEqual({ status: 200, text: '6' })
      await socket.send('5', ...all)
      expect(await socket.next(all.length)).toEqual(all)
    })

    const all = [...dialect.text('over'), ...dialect.bytes(Buffer.from('and')), ...dialect.text('out')]

    test('what was sent before it comes after it', async () => {
      const base = await servers.base()
      const polling = (await begin(base, 'polling')) as PollingWire
      await polling.send(...all)
      const socket = await probed(base, polling.opened.sid)
      await socket.send('5', ...dialect.text('last'))
      const expected = [...all, ...dialect.text('last')]
      expect(await socket.next(expected.length)).toEqual(expected)
    })

    test('after it the session is not to be had by polls or by another WebSocket, and goes on', async () => {
      const base = await servers.base()
      const polling = (await begin(base, 'polling')) as PollingWire
      const socket = await probed(base, polling.opened.sid)
      await socket.send('5', ...dialect.text('here'))
      expect(await socket.next(1)).toEqual(dialect.text('here'))
      expect((await polling.poll()).status).toBe(400)
      const second = new WebSocketWire(base, `EIO=4&transport=websocket&sid=${polling.opened.sid}`)
      expect(await second.isOver()).toBe(true)
      await socket.send(...dialect.text('still'))
      expect(await socket.next(1)).toEqual(dialect.text('still'))
    })

    test('a WebSocket that does not probe is closed, and polling goes on', async () => {
      const base = await servers.base()
      const polling = (await begin(base, 'polling')) as PollingWire
      const socket = await WebSocketWire.open(base, `&sid=${polling.opened.sid}`)
      await socket.send('4not a probe')
      expect(await socket.isOver()).toBe(true)
      await polling.send(...dialect.text('as before'))
      expect(await polling.next(1)).toEqual(dialect.text('as before'))
    })
  })
})
