import { once } from 'node:events'
import { connect } from 'node:net'
import { parseArgs } from 'node:util'
import { topic } from '../load/broadcast.ts'
import { publishOnCommand } from './publish-on-command.ts'

// Publishes to nchan over one connection that stays open; what belongs to one burst leaves in one write.

const { values } = parseArgs({ options: { port: { type: 'string', default: '' } } })

const answerTimeoutMs = 10_000
const socket = connect({ host: '127.0.0.1', port: Number(values.port), noDelay: true })
let answers = ''
socket.setEncoding('latin1').on('data', (text) => {
  answers += text
})

publishOnCommand(async (payloads) => {
  answers = ''
  socket.write(payloads.map(request).join(''))
  const timeout = AbortSignal.timeout(answerTimeoutMs)
  while (statusesIn(answers).length < payloads.length) await once(socket, 'data', { signal: timeout })
  const refused = statusesIn(answers).find((status) => !status.startsWith('2'))
  if (refused !== undefined) throw new Error(`nchan answered ${refused}`)
})

function request(payload: string): string {
  const head = `POST /publish/${topic} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain`
  return `${head}\r\nContent-Length: ${payload.length}\r\n\r\n${payload}`
}

function statusesIn(text: string): string[] {
  return [...text.matchAll(/HTTP\/1\.1 (\d{3})/g)].map((match) => match[1]!)
}

await once(socket, 'connect')
process.send?.({ ready: true })
