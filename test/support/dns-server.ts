import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { onTestFinished } from 'vitest'

export interface DnsRecords {
  A?: string[]
  /** In full, eight groups. */
  AAAA?: string[]
  SRV?: { priority: number; weight: number; port: number; name: string }[]
}

const types = { A: 1, AAAA: 28, SRV: 33 } as const
const codes = { NXDOMAIN: 3, SERVFAIL: 2 } as const

/** A name server on 127.0.0.1 (UDP), whose answers a test sets by hand. */
export class DnsServer {
  /** By name; one that is missing does not exist. */
  readonly names = new Map<string, DnsRecords | 'SERVFAIL' | 'silent'>()
  questions = 0
  address = ''

  static async start(): Promise<DnsServer> {
    const server = new DnsServer()
    const socket = createSocket('udp4')
    socket.on('message', (question, { port, address }) => {
      const answer = server.answer(question)
      if (answer !== null) socket.send(answer, port, address)
    })
    socket.bind(0, '127.0.0.1')
    await once(socket, 'listening')
    server.address = `127.0.0.1:${(socket.address() as AddressInfo).port}`
    onTestFinished(() => void socket.close())
    return server
  }

  private answer(question: Buffer): Buffer | null {
    this.questions++
    const labels: string[] = []
    let at = 12
    while (question[at] !== 0) {
      const length = question[at]!
      labels.push(question.toString('latin1', at + 1, at + 1 + length))
      at += length + 1
    }
    const end = at + 5
    const asked = question.readUInt16BE(at + 1)
    const known = this.names.get(labels.join('.').toLowerCase())
    if (known === 'silent') return null
    const code = known === undefined ? codes.NXDOMAIN : known === 'SERVFAIL' ? codes.SERVFAIL : 0
    const records = typeof known === 'object' ? recordsOf(known, asked) : []
    const header = Buffer.alloc(12)
    question.copy(header, 0, 0, 2)
    header.writeUInt16BE(0x8180 | code, 2)
    header.writeUInt16BE(1, 4)
    header.writeUInt16BE(records.length, 6)
    const answers = records.map((data) => {
      const head = Buffer.alloc(12)
      // A pointer to the name in the question.
      head.writeUInt16BE(0xc00c, 0)
      head.writeUInt16BE(asked, 2)
      head.writeUInt16BE(1, 4)
      head.writeUInt16BE(data.length, 10)
      return Buffer.concat([head, data])
    })
    return Buffer.concat([header, question.subarray(12, end), ...answers])
  }
}

function recordsOf({ A = [], AAAA = [], SRV = [] }: DnsRecords, asked: number): Buffer[] {
  if (asked === types.A) return A.map((address) => Buffer.from(address.split('.').map(Number)))
  if (asked === types.AAAA)
    return AAAA.map((address) =>
      Buffer.from(
        address
          .split(':')
          .map((group) => group.padStart(4, '0'))
          .join(''),
        'hex',
      ),
    )
  if (asked !== types.SRV) return []
  return SRV.map(({ priority, weight, port, name }) => {
    const head = Buffer.alloc(6)
    for (const [index, value] of [priority, weight, port].entries()) head.writeUInt16BE(value, index * 2)
    const labels = name.split('.').filter((label) => label !== '')
    const parts = labels.map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)]))
    return Buffer.concat([head, ...parts, Buffer.from([0])])
  })
}
