import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { type ClientHttp2Session, type ClientHttp2Stream, connect } from 'node:http2'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import { onTestFinished } from 'vitest'
import { EventStreamParser, type StreamEvent } from './event-stream.ts'
import { until } from './until.ts'

export interface Pair {
  readonly certFile: string
  readonly keyFile: string
}

/** A directory that is gone with the test. */
export function temporaryDirectory(): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'evenkeel-tls-'))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

/** What `public` and `internal` are to be overridden with for TLS. */
export function tlsListener(certificates: readonly Pair[], more = {}) {
  return {
    host: '127.0.0.1',
    port: 0,
    tls: { certificates, minVersion: 'TLSv1.2' as const, reloadMs: 0, ...more },
  }
}

let shared: Pair | null = null

/** For localhost; the same for all tests of a file. */
export function localCertificate(): Pair {
  if (shared === null) {
    const directory = mkdtempSync(path.join(tmpdir(), 'evenkeel-tls-'))
    process.on('exit', () => rmSync(directory, { recursive: true, force: true }))
    shared = makeCertificate(directory, ['localhost', '127.0.0.1'])
  }
  return shared
}

/** Makes a key and a certificate that it signs itself. `days`: -1, it has expired. */
export function makeCertificate(
  directory: string,
  names: readonly string[],
  days = 30,
  file = names[0]!,
): Pair {
  const certFile = path.join(directory, `${file}.pem`)
  const keyFile = path.join(directory, `${file}.key`)
  const alternative = names.map((name) => (/^[\d.]+$/.test(name) ? `IP:${name}` : `DNS:${name}`)).join(',')
  const key = ['genpkey', '-algorithm', 'EC', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-out', keyFile]
  execFileSync('openssl', key, { stdio: 'pipe' })
  const request = [
    'req',
    '-new',
    '-key',
    keyFile,
    '-subj',
    `/CN=${names[0]}`,
    '-addext',
    `subjectAltName=${alternative}`,
  ]
  const csr = execFileSync('openssl', request, { stdio: 'pipe' })
  const sign = [
    'x509',
    '-req',
    '-signkey',
    keyFile,
    '-days',
    String(days),
    '-copy_extensions',
    'copy',
    '-out',
    certFile,
  ]
  execFileSync('openssl', sign, { stdio: 'pipe', input: csr })
  return { certFile, keyFile }
}

export function read({ certFile }: Pair): Buffer {
  return readFileSync(certFile)
}

/** A handshake with the name; resolves with the connection, which ends with the test. */
export async function handshake(port: number, servername: string, options = {}): Promise<TLSSocket> {
  const socket = connectTls({ host: '127.0.0.1', port, servername, rejectUnauthorized: false, ...options })
  onTestFinished(() => void socket.destroy())
  await new Promise<void>((resolve, reject) => socket.once('secureConnect', resolve).once('error', reject))
  socket.on('error', () => {})
  return socket
}

/** One HTTP/2 connection; it ends with the test. */
export class Http2Client {
  readonly session: ClientHttp2Session
  /** Codes of GOAWAY frames. */
  readonly goAways: number[] = []

  constructor(port: number, settings = {}) {
    this.session = connect(`https://localhost:${port}`, { rejectUnauthorized: false, settings })
    this.session.on('goaway', (code) => this.goAways.push(code))
    this.session.on('error', () => {})
    onTestFinished(() => this.session.destroy())
  }

  stream(headers: Record<string, string | string[]>, body?: string | Uint8Array): ClientHttp2Stream {
    const stream = this.session.request(headers, { endStream: body === undefined })
    stream.on('error', () => {})
    if (body !== undefined) stream.end(body)
    return stream
  }

  async request(
    headers: Record<string, string | string[]>,
    body?: string | Uint8Array,
  ): Promise<{ status: number; headers: Record<string, unknown>; body: string }> {
    const stream = this.stream(headers, body)
    const [head, text] = await Promise.all([headOf(stream), textOf(stream)])
    return { status: Number(head[':status']), headers: head, body: text }
  }

  async events(path: string, headers: Record<string, string> = {}): Promise<Http2Events> {
    const stream = this.stream({ ':path': path, ...headers })
    const events = new Http2Events(stream)
    events.headers = await headOf(stream)
    return events
  }
}

export function headOf(stream: ClientHttp2Stream): Promise<Record<string, unknown>> {
  return new Promise((resolve, reject) => {
    stream.once('response', (headers) => resolve(headers as Record<string, unknown>))
    stream.once('close', () => reject(new Error(`no answer: stream closed with ${stream.rstCode}`)))
  })
}

async function textOf(stream: ClientHttp2Stream): Promise<string> {
  let text = ''
  for await (const chunk of stream.setEncoding('utf8')) text += chunk
  return text
}

export class Http2Events {
  readonly stream: ClientHttp2Stream
  readonly events: StreamEvent[] = []
  headers: Record<string, unknown> = {}
  ended = false
  readonly looks = new Set<() => void>()
  private read = 0

  constructor(stream: ClientHttp2Stream) {
    this.stream = stream
    const parser = new EventStreamParser()
    const decoder = new TextDecoder('utf-8', { ignoreBOM: true })
    stream.on('data', (chunk: Buffer) => {
      this.events.push(...parser.push(decoder.decode(chunk, { stream: true })))
      this.look()
    })
    stream.on('close', () => {
      this.ended = true
      this.look()
    })
  }

  /** The next event that was not taken yet. */
  async next(type = 'message'): Promise<StreamEvent> {
    await until(() => this.events.slice(this.read).some((event) => event.type === type), this.looks)
    const at = this.events.findIndex((event, index) => index >= this.read && event.type === type)
    this.read = at + 1
    return this.events[at]!
  }

  async end(): Promise<void> {
    await until(() => this.ended, this.looks)
  }

  private look(): void {
    for (const look of [...this.looks]) look()
  }
}

/** Writes frames by hand, as clients do that mean no good. It ends with the test. */
export class RawHttp2 {
  readonly socket: TLSSocket

  private constructor(socket: TLSSocket) {
    this.socket = socket
  }

  static async connect(port: number): Promise<RawHttp2> {
    const socket = await handshake(port, 'localhost', { ALPNProtocols: ['h2'] })
    const raw = new RawHttp2(socket)
    socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
    raw.frame(4, 0, 0)
    return raw
  }

  frame(type: number, flags: number, stream: number, payload: Uint8Array = Buffer.alloc(0)): void {
    const head = Buffer.alloc(9)
    head.writeUIntBE(payload.length, 0, 3)
    head[3] = type
    head[4] = flags
    head.writeUInt32BE(stream, 5)
    this.socket.write(Buffer.concat([head, payload]))
  }

  headers(
    stream: number,
    headers: Record<string, string>,
    { endStream = true, endHeaders = true } = {},
  ): void {
    const all = { ':method': 'GET', ':scheme': 'https', ':authority': 'localhost', ...headers }
    const sorted = Object.entries(all).toSorted(
      ([a], [b]) => Number(b.startsWith(':')) - Number(a.startsWith(':')),
    )
    const block = Buffer.concat(sorted.map(([name, value]) => literal(name, value)))
    this.frame(1, (endStream ? 1 : 0) | (endHeaders ? 4 : 0), stream, block)
  }

  data(stream: number, text: string, endStream = false): void {
    this.frame(0, endStream ? 1 : 0, stream, Buffer.from(text))
  }

  reset(stream: number, code: number): void {
    const payload = Buffer.alloc(4)
    payload.writeUInt32BE(code)
    this.frame(3, 0, stream, payload)
  }

  /** All frames that were written have been read, since this one is answered. */
  async answered(): Promise<void> {
    const mark = Buffer.from('answered')
    this.frame(6, 0, 0, mark)
    await new Promise<void>((resolve) => {
      let seen = Buffer.alloc(0)
      this.socket.on('data', (chunk: Buffer) => {
        seen = Buffer.concat([seen, chunk])
        if (seen.includes(mark)) resolve()
      })
    })
  }
}

/** A header without indexing and without Huffman (RFC 7541 §6.2.2). */
export function literal(name: string, value: string): Buffer {
  return Buffer.concat([
    Buffer.from([0]),
    lengthOf(name),
    Buffer.from(name),
    lengthOf(value),
    Buffer.from(value),
  ])
}

function lengthOf({ length }: string): Buffer {
  if (length < 127) return Buffer.from([length])
  const bytes = [127]
  let rest = length - 127
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128)
  return Buffer.from([...bytes, rest])
}
