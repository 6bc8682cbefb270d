import { linkSubprotocol } from '../../src/protocol/link-records.ts'
import { encodeRecord, json, u32s } from '../support/link-wire.ts'
import type { Threat } from './threat.ts'
import { ask, frame, openSocket, type RawConnection, statuses, type Target } from './wire.ts'

const local = 'Host: 127.0.0.1'
/** Metadata services, link-local, the gateway itself, nobody, the same in other words; then what is no address of a server. */
const forbidden = ({ internalPort }: { internalPort: number }) => [
  'http://169.254.169.254',
  'http://[fe80::1]',
  'http://[::ffff:169.254.169.254]',
  `http://127.0.0.1:${internalPort}`,
  'http://0.0.0.0',
  'http://2852039166',
  'file:///etc/passwd',
  'http://user:secret@10.0.0.1',
  'http://10.0.0.1/path',
]

function api(
  method: string,
  path: string,
  token: string,
  body?: string,
  headers: readonly string[] = [],
): string {
  const about =
    body === undefined ? [] : ['Content-Type: application/json', `Content-Length: ${Buffer.byteLength(body)}`]
  const login = token === '' ? [] : [`Authorization: Bearer ${token}`]
  const head = [`${method} ${path} HTTP/1.1`, 'Connection: close', ...about, ...login]
  const host = headers.some((line) => line.startsWith('Host:')) ? [] : [local]
  return `${[...head, ...host, ...headers].join('\r\n')}\r\n\r\n${body ?? ''}`
}

/** A link whose upgrade is done. */
function dial({ internalPort, nodeToken }: Target): Promise<RawConnection> {
  const login = nodeToken === '' ? [] : [`Authorization: Bearer ${nodeToken}`]
  return openSocket(internalPort, '/link', [`Sec-WebSocket-Protocol: ${linkSubprotocol}`, ...login])
}

let nodes = 0

/** A node of a pool without clients. */
export async function linkNode(target: Target, change: Record<string, unknown> = {}): Promise<RawConnection> {
  const id = `hostile-${process.pid}-${++nodes}`
  const link = await dial(target)
  const hello = {
    protocol: 1,
    id,
    instance: `instance-of-${id}`,
    pool: 'elsewhere',
    weight: 1,
    maxSessions: null,
    host: 'test',
    pid: 1,
    version: '',
    ...change,
  }
  link.write(frame(encodeRecord('hello', { body: json(hello) }), 0x82))
  await link.frame()
  return link
}

/** What can be done at the internal listener. */
export const insideThreats: readonly Threat[] = [
  {
    name: 'admin without its token',
    answer: '401 401 401 401 401',
    perSecond: 4,
    async attack({ internalPort, nodeToken }) {
      const requests = [
        api('GET', '/api/v1/nodes', ''),
        api('POST', '/api/v1/rebalance', 'guess', '{}'),
        api('GET', '/api/v1/nodes', nodeToken),
        api('GET', '/metrics', ''),
        api('GET', '/socket.io/?EIO=4&transport=polling', ''),
      ]
      return (await Promise.all(requests.map((text) => ask(internalPort, text).then(statuses)))).join(' ')
    },
  },
  {
    name: 'node without its token',
    answer: '401, 401',
    perSecond: 10,
    async attack({ internalPort, adminToken }) {
      const protocol = `Sec-WebSocket-Protocol: ${linkSubprotocol}`
      const attempts = [[protocol], [protocol, `Authorization: Bearer ${adminToken}`]].map((headers) =>
        openSocket(internalPort, '/link', headers).then(
          () => 'linked',
          (error: Error) => error.message,
        ),
      )
      return (await Promise.all(attempts)).join(', ')
    },
  },
  {
    name: 'SSRF by upstream registration',
    answer: '403 403 403 403 403 403 400 400 400',
    perSecond: 2,
    async attack({ internalPort, adminToken }) {
      const answers = forbidden({ internalPort }).map((url, i) => {
        const body = JSON.stringify({ pool: 'legacy', url, id: `evil-${i}` })
        return ask(internalPort, api('POST', '/api/v1/upstreams', adminToken, body)).then(statuses)
      })
      return (await Promise.all(answers)).join(' ')
    },
  },
  {
    name: 'half-open link',
    answer: 'close 4408',
    perSecond: 10,
    async attack(target) {
      return (await dial(target)).closing()
    },
  },
  {
    name: 'garbage on a link',
    answer: 'close 4400, close 4400, close 4400, close 4400',
    perSecond: 5,
    async attack(target) {
      const garbage = [
        frame(Buffer.alloc(1_000, 0xa5), 0x82),
        frame('text'),
        frame(encodeRecord('hello', { body: Buffer.from(`${'['.repeat(100_000)}`) }), 0x82),
        frame(encodeRecord('commit', { session: 1, body: u32s([1]) }), 0x82),
      ]
      const ends = garbage.map(async (piece) => {
        const link = await dial(target)
        link.write(piece)
        return link.closing()
      })
      return (await Promise.all(ends)).join(', ')
    },
  },
  {
    name: 'huge record on a link',
    answer: 'close 1009, close 1008, close 4400',
    perSecond: 5,
    async attack(target) {
      const [huge, fragments, wrong] = await Promise.all([dial(target), dial(target), linkNode(target)])
      huge.write(frame('', 0x82, 64n * 1024n * 1024n))
      fragments.write(
        Buffer.concat([frame('x', 0x02), ...Array.from({ length: 1_100 }, () => frame('x', 0x00))]),
      )
      const record = encodeRecord('report', { body: Buffer.from('{}') })
      record.writeUInt32LE(0xffff_ffff, 0)
      wrong.write(frame(record, 0x82))
      return (await Promise.all([huge, fragments, wrong].map((link) => link.closing()))).join(', ')
    },
  },
  {
    name: 'node that floods with what is not its own',
    answer: 'dropped, and the link serves on',
    perSecond: 5,
    async attack(target) {
      const link = await linkNode(target)
      // Other nodes' sessions have small numbers too.
      const records = Array.from({ length: 2_000 }, (_, i) =>
        encodeRecord(i % 2 === 0 ? 'output' : 'commit', { session: 1 + (i % 50), term: 1, body: u32s([1]) }),
      )
      const ping = encodeRecord('ping', { body: u32s([7]) })
      link.write(frame(Buffer.concat([...records, ping]), 0x82))
      for (;;) {
        const { opcode, payload } = await link.frame()
        if (opcode === 8) return `close ${payload.readUInt16BE(0)}`
        if (payload[4] !== 0x04) continue
        link.drop()
        return 'dropped, and the link serves on'
      }
    },
  },
]

/** Only where there is no token, so that Host and Origin have to tell. */
export const openThreats: readonly Threat[] = [
  {
    name: 'admin by a web page (cross-origin, DNS rebinding)',
    answer: '403 403 403 403 200',
    perSecond: 20,
    async attack({ internalPort }) {
      const requests = [
        api('POST', '/api/v1/rebalance', '', '{}', ['Origin: https://evil.example']),
        api('POST', '/api/v1/rebalance', '', '{}', ['Origin: null']),
        api('GET', '/api/v1/nodes', '', undefined, ['Host: evil.example']),
        api('GET', '/metrics', '', undefined, ['Host: 127.0.0.1.evil.example']),
        api('GET', '/api/v1/nodes', ''),
      ]
      return (await Promise.all(requests.map((text) => ask(internalPort, text).then(statuses)))).join(' ')
    },
  },
  {
    name: 'link by a web page',
    answer: '403, 403',
    perSecond: 20,
    async attack({ internalPort }) {
      const protocol = `Sec-WebSocket-Protocol: ${linkSubprotocol}`
      const attempts = [['Origin: https://evil.example'], ['Origin: null']].map((headers) =>
        openSocket(internalPort, '/link', [protocol, ...headers]).then(
          () => 'linked',
          (error: Error) => error.message,
        ),
      )
      return (await Promise.all(attempts)).join(', ')
    },
  },
]
