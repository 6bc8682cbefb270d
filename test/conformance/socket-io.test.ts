import type { Server } from 'socket.io'
import { afterAll, describe, expect, test } from 'vitest'
import { Servers, socketIoTargets } from '../support/conformance.ts'
import {
  connectWire,
  type Piece,
  PollingWire,
  type WebSocketWire,
  type Wire,
} from '../support/engine-wire.ts'

/** Socket.IO 5 as its protocol says it, asked of a Socket.IO server without a gateway and of one behind a gateway: the same of both. */

function app(io: Server): void {
  const serve = (namespace: Pick<Server, 'on'>) =>
    namespace.on('connection', (socket) => {
      socket.emit('auth', socket.handshake.auth)
      socket.on('echo', (...args) => socket.emit('echo', ...args))
      socket.on('ask', (...args) => {
        const answer = args.pop() as (...args: unknown[]) => void
        answer(...args)
      })
      socket.on('ask me', (...args) => {
        socket.emit('question', ...args, (...answers: unknown[]) => socket.emit('thanks', ...answers))
      })
      socket.on('leave', (close: boolean) => socket.disconnect(close))
      socket.on('disconnect', (reason) => io.emit('gone', socket.nsp.name, reason))
    })
  serve(io)
  serve(io.of('/second') as never)
  serve(io.of(/^\/made-\d+$/) as never)
  io.of('/closed').use((_socket, next) => {
    next(Object.assign(new Error('not you'), { data: { because: [1, null] } }))
  })
}

const transports = ['polling', 'websocket'] as const

describe.each(socketIoTargets)('$name', (target) => {
  const servers = new Servers(target, app)
  afterAll(() => servers.stop())

  /** Connected to a namespace, `prefix` being how packets name it. */
  async function begin(transport: (typeof transports)[number] = 'websocket', prefix = ''): Promise<Wire> {
    const wire = await connectWire(await servers.base(), transport)
    await enter(wire, prefix)
    return wire
  }

  async function enter(wire: Wire, prefix: string, auth = ''): Promise<string> {
    await wire.send(`40${prefix}${auth}`)
    const [connected, greeting] = (await wire.next(2)) as [string, string]
    expect(connected.startsWith(`40${prefix}{`)).toBe(true)
    expect(greeting).toBe(`42${prefix}["auth",${auth || '{}'}]`)
    return (JSON.parse(connected.slice(2 + prefix.length)) as { sid: string }).sid
  }

  describe('connect', () => {
    test.each([
      ['the main namespace', '', ''],
      ['the main namespace, with a payload', '', '{"token":"abc","deep":{"n":[1,null,"ü"]}}'],
      ['another one', '/second,', ''],
      ['another one, with a payload', '/second,', '{"token":"123"}'],
      ['one that is made for it', '/made-7,', '{"a":1}'],
    ])('to %s', async (_what, prefix, auth) => {
      const wire = await connectWire(await servers.base(), 'websocket')
      expect(await enter(wire, prefix, auth)).toMatch(/^[\w-]{20}$/)
    })

    test('the id is not that of Engine.IO, and each namespace gives its own', async () => {
      const wire = await PollingWire.open(await servers.base())
      const ids = [await enter(wire, ''), await enter(wire, '/second,'), await enter(wire, '/made-1,')]
      expect(new Set([...ids, wire.opened.sid]).size).toBe(4)
    })

    test.each([
      ['a namespace that is not there', '40/nowhere', '44/nowhere,{"message":"Invalid namespace"}'],
      ['who is not let in', '40/closed,', '44/closed,{"message":"not you","data":{"because":[1,null]}}'],
    ])('%s is refused, and the connection goes on', async (_what, packet, answer) => {
      const wire = await begin()
      await wire.send(packet)
      expect(await wire.next(1)).toEqual([answer])
      await wire.send('42["echo",1]')
      expect(await wire.next(1)).toEqual(['42["echo",1]'])
    })

    test.each([
      ['an event', ['42["echo",1]']],
      ['an event of another namespace', ['42/second,["echo",1]']],
      ['an acknowledgement', ['431[]']],
      ['bytes', [Buffer.from('abc')]],
      ['what is no packet', ['4hello']],
      ['a CONNECT whose payload is no JSON', ['40{"token"']],
      ['a CONNECT whose payload is no object', ['40"token"']],
      ['nothing', ['4']],
    ] as [string, Piece[]][])('%s in its place closes the connection', async (_what, pieces) => {
      const wire = await connectWire(await servers.base(), 'websocket')
      await wire.send(...pieces)
      expect(await wire.isOver()).toBe(true)
    })

    test.each(transports)('a client that never does is closed, over %s', async (transport) => {
      const wire = await connectWire(await servers.base({ connectTimeout: 100 }), transport)
      expect(await wire.isOver()).toBe(true)
    })
  })

  describe('events', () => {
    const events: Piece[][] = [
      ['42["echo"]'],
      ['42["echo",1,"2",{"3":[true,null,[]]}]'],
      ['42["echo","\\u001e and \\u0000, é, 🕊"]'],
      ['451-["echo",{"_placeholder":true,"num":0}]', Buffer.from([1, 2, 3])],
      [
        '453-["echo",{"_placeholder":true,"num":0},{"in":[{"_placeholder":true,"num":1}],"n":{"_placeholder":true,"num":2}}]',
        Buffer.from([0xff, 0xfe]),
        Buffer.alloc(0),
        Buffer.alloc(20_000, 9),
      ],
      ['42["echo","last"]'],
    ]
    // What is sent comes back as JSON writes it.
    const answers = events.flat().map((piece) => (piece === events[2]![0] ? written(piece as string) : piece))

    test.each(transports)('text and bytes, in order, over %s', async (transport) => {
      const wire = await begin(transport)
      await wire.send(...events.flat())
      expect(await wire.next(answers.length)).toEqual(answers)
    })

    test.each(transports)('of another namespace, over %s', async (transport) => {
      const wire = await begin(transport, '/second,')
      const packets = ['42/second,["echo",1]', '451-/second,["echo",{"_placeholder":true,"num":0}]']
      await wire.send(...packets, Buffer.from('x'))
      expect(await wire.next(3)).toEqual([...packets, Buffer.from('x')])
    })

    test('of several namespaces over one connection', async () => {
      const wire = await begin()
      await enter(wire, '/second,')
      const packets = ['42["echo",1]', '42/second,["echo",2]', '42["echo",3]']
      await wire.send(...packets)
      expect(await wire.next(3)).toEqual(packets)
    })

    test('that nobody listens to change nothing', async () => {
      const wire = await begin()
      await wire.send('42["nobody listens",1]', '421["nobody listens",1]', '42["echo",2]')
      expect(await wire.next(1)).toEqual(['42["echo",2]'])
    })

    test.each([
      ['of an unknown type', ['4abc']],
      ['of type 7', ['47["echo",1]']],
      ['whose payload is an object', ['42{}']],
      ['whose payload is empty', ['42[]']],
      ['whose payload is no JSON', ['42["echo"']],
      ['whose name is a word of Socket.IO', ['42["disconnect","now"]']],
      ['with an id that is none', ['42abc["ask",1]']],
      ['with fewer attachments than it says', ['451-["echo",{"_placeholder":true,"num":0}]', '42["echo",1]']],
      ['with an attachment that it does not say', ['42["echo",1]', Buffer.from('x')]],
      ['of bytes that does not say how many', ['45["echo",{"_placeholder":true,"num":0}]', Buffer.from('x')]],
      ['that points to no attachment', ['451-["echo",{"_placeholder":true,"num":3}]', Buffer.from('x')]],
      ['of a namespace that it is not in', ['42/second,["echo",1]']],
    ] as [string, Piece[]][])('a packet %s closes the connection', async (_what, pieces) => {
      const wire = await begin()
      await wire.send(...pieces)
      expect(await wire.isOver()).toBe(true)
    })
  })

  describe('acknowledgements', () => {
    test.each([
      ['with what was asked', ['42456["ask",1,{"a":[]}]'], ['43456[1,{"a":[]}]']],
      ['with nothing', ['420["ask"]'], ['430[]']],
      ['with text for bytes', ['42/second,13["ask","x"]'], ['43/second,13["x"]']],
      [
        'with bytes',
        ['451-789["ask",{"_placeholder":true,"num":0}]', Buffer.from('abc')],
        ['461-789[{"_placeholder":true,"num":0}]', Buffer.from('abc')],
      ],
      [
        'with bytes in another namespace',
        ['451-/second,7["ask",{"_placeholder":true,"num":0}]', Buffer.from('abc')],
        ['461-/second,7[{"_placeholder":true,"num":0}]', Buffer.from('abc')],
      ],
    ] as [string, Piece[], Piece[]][])('the server answers %s', async (_what, question, answer) => {
      for (const transport of transports) {
        const wire = await begin(transport)
        await enter(wire, '/second,')
        await wire.send(...question)
        expect(await wire.next(answer.length)).toEqual(answer)
      }
    })

    test.each([
      ['the main namespace', ''],
      ['another one', '/second,'],
    ])('the client answers the server, in %s', async (_what, prefix) => {
      const wire = await begin('websocket', prefix)
      await wire.send(`42${prefix}["ask me","how"]`)
      const [question] = (await wire.next(1)) as [string]
      const [, id] = new RegExp(`^42${prefix}(\\d+)\\["question","how"\\]$`).exec(question)!
      await wire.send(`43${prefix}${id}["so",1]`)
      expect(await wire.next(1)).toEqual([`42${prefix}["thanks","so",1]`])
      // It counts once.
      await wire.send(`43${prefix}${id}["again"]`, `42${prefix}["ask me",{"now":null}]`)
      const [second] = (await wire.next(1)) as [string]
      const [, next] = new RegExp(`^42${prefix}(\\d+)\\["question",\\{"now":null\\}\\]$`).exec(second)!
      expect(next).not.toBe(id)
      const placeholder = '{"_placeholder":true,"num":0}'
      await wire.send(`461-${prefix}${next}[${placeholder}]`, Buffer.from('bytes'))
      expect(await wire.next(2)).toEqual([`451-${prefix}["thanks",${placeholder}]`, Buffer.from('bytes')])
    })

    test('of what was not asked change nothing', async () => {
      const wire = await begin()
      await wire.send('4399999["x"]', '42["echo",1]')
      expect(await wire.next(1)).toEqual(['42["echo",1]'])
    })
  })

  describe('disconnect', () => {
    test('by the client, from one namespace of two', async () => {
      const wire = await begin()
      await enter(wire, '/second,')
      await wire.send('41/second,')
      expect(await wire.next(1)).toEqual(['42["gone","/second","client namespace disconnect"]'])
      await wire.send('42["echo","still here"]')
      expect(await wire.next(1)).toEqual(['42["echo","still here"]'])
      await enter(wire, '/second,')
    })

    test.each(transports)('by the server, from one namespace of two, over %s', async (transport) => {
      const wire = await begin(transport)
      await enter(wire, '/second,')
      await wire.send('42/second,["leave",false]')
      expect(await wire.next(2)).toEqual(['41/second,', '42["gone","/second","server namespace disconnect"]'])
    })

    test('by the server, with the connection', async () => {
      const wire = (await begin()) as WebSocketWire
      await wire.send('42["leave",true]')
      expect(await wire.next(1)).toEqual(['41'])
      expect(await wire.isOver()).toBe(true)
    })

    test('by the client, from all: the connection may stay, and serve again', async () => {
      const wire = await begin()
      await wire.send('41')
      await enter(wire, '/second,')
    })

    test('others hear why a client went', async () => {
      const witness = await begin()
      const leaver = (await begin()) as WebSocketWire
      leaver.ws.close()
      expect(await witness.next(1)).toEqual(['42["gone","/","transport close"]'])
    })
  })
})

/** A packet of type EVENT of the main namespace as JSON writes it. */
function written(packet: string): string {
  return `42${JSON.stringify(JSON.parse(packet.slice(2)))}`
}
