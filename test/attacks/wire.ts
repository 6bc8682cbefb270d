import { connect, type Socket } from 'node:net'

/** What the attacks are aimed at. */
export interface Target {
  readonly publicPort: number
  readonly internalPort: number
  /** What the gateway asks of nodes and of operators. */
  readonly nodeToken: string
  readonly adminToken: string
  /** A Redis that the gateway shares; '' where there is none. */
  readonly redisUrl: string
  /** Takes secrets that must not be found in any log. */
  secret(text: string): void
}

const patienceMs = 20_000

/** A TCP connection that sends what no library would. */
export class RawConnection {
  received: Buffer = Buffer.alloc(0)
  ended = false
  readonly socket: Socket
  private readonly looks = new Set<() => void>()

  constructor(port: number) {
    this.socket = connect({ port, host: '127.0.0.1', noDelay: true })
    this.socket.on('data', (chunk: Buffer) => {
      this.received = this.received.length === 0 ? chunk : Buffer.concat([this.received, chunk])
      this.look()
    })
    this.socket.on('error', () => {})
    this.socket.on('close', () => {
      this.ended = true
      this.look()
    })
  }

  write(data: string | Buffer): void {
    this.socket.write(data)
  }

  /** Resolves once `condition` holds; rejects when the connection ended before, or after `withinMs`. */
  until(condition: () => boolean, withinMs = patienceMs): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = (end: () => void) => {
        clearTimeout(timer)
        this.looks.delete(look)
        end()
      }
      const look = () => {
        if (condition()) settle(resolve)
        else if (this.ended) settle(() => reject(new Error('the connection ended')))
      }
      const timer = setTimeout(() => settle(() => reject(new Error('nothing came'))), withinMs)
      this.looks.add(look)
      look()
    })
  }

  /** True: the gateway ended it in time. */
  async end(withinMs = patienceMs): Promise<boolean> {
    await this.until(() => this.ended, withinMs).catch(() => {})
    return this.ended
  }

  /** Takes the head of an answer. */
  async head(): Promise<{ status: number; text: string }> {
    await this.until(() => this.received.includes('\r\n\r\n'))
    const end = this.received.indexOf('\r\n\r\n') + 4
    const text = this.received.toString('latin1', 0, end)
    this.received = this.received.subarray(end)
    return { status: Number(text.split(' ', 2)[1]), text }
  }

  /** Takes the next frame of a WebSocket. Pings are answered. */
  async frame(withinMs = patienceMs): Promise<{ opcode: number; payload: Buffer }> {
    await this.until(() => frameBytes(this.received) <= this.received.length, withinMs)
    const bytes = frameBytes(this.received)
    const piece = this.received.subarray(0, bytes)
    this.received = this.received.subarray(bytes)
    const payload = piece.subarray(bytes - payloadBytes(piece))
    const opcode = piece[0]! & 0xf
    if (opcode === 9) this.write(frame(payload, 0x8a))
    return { opcode, payload }
  }

  /** The next text message. */
  async text(): Promise<string> {
    const deadline = performance.now() + patienceMs
    while (performance.now() < deadline) {
      const { opcode, payload } = await this.frame()
      if (opcode === 1) return payload.toString()
    }
    throw new Error('no message came')
  }

  /** How the gateway ends a WebSocket: `close 1008`, `cut` without a close frame, `open` when it does not. */
  async closing(withinMs = patienceMs): Promise<string> {
    const deadline = performance.now() + withinMs
    for (;;) {
      const left = Math.max(1, deadline - performance.now())
      const next = await this.frame(left).catch(() => null)
      if (next === null) return this.ended ? 'cut' : 'open'
      const { opcode, payload } = next
      if (opcode === 8) return `close ${payload.length < 2 ? 'no code' : payload.readUInt16BE(0)}`
    }
  }

  /** As when its process is killed. */
  drop(): void {
    this.socket.resetAndDestroy()
  }

  private look(): void {
    for (const look of [...this.looks]) look()
  }
}

/** All that comes for a request until the gateway ends the connection. */
export async function ask(port: number, request: string | Buffer, withinMs?: number): Promise<string> {
  const connection = new RawConnection(port)
  connection.write(request)
  if (!(await connection.end(withinMs))) connection.drop()
  return connection.received.toString()
}

/** The statuses of all answers in there. */
export function statuses(answer: string): string {
  return [...answer.matchAll(/^HTTP\/1\.1 (\d{3})/gm)].map(([, status]) => status).join(' ') || 'cut'
}

export function handshake(path: string, headers: readonly string[] = []): string {
  const own = ['Host: 127.0.0.1', 'Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13']
  return `${[`GET ${path} HTTP/1.1`, ...own, 'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==', ...headers].join('\r\n')}\r\n\r\n`
}

/** A WebSocket whose handshake is done. Throws the status when it is refused. */
export async function openSocket(
  port: number,
  path = '/ws',
  headers: readonly string[] = [],
): Promise<RawConnection> {
  const connection = new RawConnection(port)
  connection.write(handshake(path, headers))
  const { status } = await connection.head()
  if (status !== 101) throw new Error(String(status))
  return connection
}

/** A client's frame; its mask is 0, so that the payload stays as it is. `first`: FIN, RSV and opcode, by default a whole text. */
export function frame(payload: string | Buffer, first = 0x81, length?: bigint): Buffer {
  const body = Buffer.from(payload as string)
  const size = length ?? BigInt(body.length)
  const head =
    size < 126n
      ? Buffer.from([first, 0x80 | Number(size)])
      : size < 65_536n
        ? Buffer.from([first, 0xfe, Number(size >> 8n), Number(size & 0xffn)])
        : Buffer.concat([Buffer.from([first, 0xff]), u64(size)])
  return Buffer.concat([head, Buffer.alloc(4), body])
}

/** An SSE session: its id, its token, and the connection of its stream. */
export async function openStream(target: Target, headers: readonly string[] = []) {
  const stream = new RawConnection(target.publicPort)
  stream.write(
    `${['GET /sse HTTP/1.1', 'Host: 127.0.0.1', 'Accept: text/event-stream', ...headers].join('\r\n')}\r\n\r\n`,
  )
  await stream.until(() => /"token":"[^"]+"/.test(stream.received.toString()))
  const text = stream.received.toString()
  const [, session, token] = /"session":"([^"]+)","token":"([^"]+)"/.exec(text)!
  target.secret(token!.split('.', 1)[0]!)
  return { stream, session: session!, token: token! }
}

/** `evenkeel.v1`: greeted, as a new client or as one that comes back. */
export async function openResumable(target: Target, resume?: { session: string; token: string }) {
  const socket = await openSocket(target.publicPort, '/ws', ['Sec-WebSocket-Protocol: evenkeel.v1'])
  socket.write(
    frame(`h${JSON.stringify(resume === undefined ? {} : { resume: { ...resume, out: 0, channels: {} } })}`),
  )
  const welcome = JSON.parse((await socket.text()).slice(1)) as {
    session: string
    token: string
    recovered: boolean | null
    reason: string | null
  }
  target.secret(welcome.token)
  return { socket, ...welcome }
}

function u64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(value)
  return bytes
}

/** Infinite while the head of the frame is incomplete. */
function frameBytes(buffer: Buffer): number {
  if (buffer.length < 2) return Number.POSITIVE_INFINITY
  const code = buffer[1]! & 127
  const head = code < 126 ? 2 : code === 126 ? 4 : 10
  return buffer.length < head ? Number.POSITIVE_INFINITY : head + payloadBytes(buffer)
}

function payloadBytes(buffer: Buffer): number {
  const code = buffer[1]! & 127
  return code < 126 ? code : code === 126 ? buffer.readUInt16BE(2) : Number(buffer.readBigUInt64BE(2))
}
