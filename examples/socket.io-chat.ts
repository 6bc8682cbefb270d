/**
 * Two ordinary Socket.IO servers behind a gateway, and clients that chat while their sessions move between the two.
 *
 *   npm run example:socket.io
 */
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { attachSocketIO } from 'evenkeel/socket.io'
import { Server } from 'socket.io'
import { io as connect } from 'socket.io-client'

const publicPort = 8080
const internalPort = 8081
const sayMs = 500
const moveMs = 2_000

function startServer(id: string): Promise<void> {
  const io = new Server()
  const { ready } = attachSocketIO(io, {
    id,
    gateways: [`ws://127.0.0.1:${internalPort}`],
    drainOnSigterm: false,
    logger: { ...console, warn() {} },
  })
  io.on('connection', (socket) => {
    if (!socket.recovered) {
      socket.data = { name: socket.handshake.auth.name, said: 0 }
      void socket.join('lobby')
    }
    socket.on('say', (text: string) => {
      socket.data.said++
      io.to('lobby').emit('said', `[server ${id}] ${socket.data.name} #${socket.data.said}: ${text}`)
    })
  })
  return ready
}

function startClient(name: string, prints: boolean): void {
  const socket = connect(`http://127.0.0.1:${publicPort}`, { auth: { name } })
  socket.on('connect', () => console.log(`${name} is connected as ${socket.id}`))
  socket.on('disconnect', (reason) => console.log(`${name} was disconnected: ${reason}`))
  if (prints) socket.on('said', (line: string) => console.log(line))
  setInterval(() => socket.emit('say', `it is ${new Date().toLocaleTimeString()}`), sayMs * 3)
}

/** What an operator would do with `evenkeel migrate`. */
async function moveSomebody(): Promise<void> {
  const api = `http://127.0.0.1:${internalPort}/api/v1`
  const { sessions } = (await (await fetch(`${api}/sessions`)).json()) as {
    sessions: { id: string; node: string }[]
  }
  const session = sessions[Math.floor(Math.random() * sessions.length)]
  if (session === undefined) return
  const to = session.node === 'one' ? 'two' : 'one'
  await fetch(`${api}/sessions/${session.id}/migrate`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ to }),
  })
  console.log(`--- a session moves from server ${session.node} to server ${to} ---`)
}

const cli = fileURLToPath(new URL('../src/cli/main.ts', import.meta.url))
const flags = ['--port', String(publicPort), '--internal-port', String(internalPort)]
const gateway = spawn(process.execPath, ['--conditions=evenkeel-source', cli, 'gateway', ...flags], {
  stdio: ['ignore', 'ignore', 'inherit'],
})
gateway.on('exit', () => process.exit(1))
process.on('exit', () => gateway.kill())
process.on('SIGINT', () => process.exit(0))
process.on('SIGTERM', () => process.exit(0))

await Promise.all([startServer('one'), startServer('two')])
for (const [index, name] of ['Ann', 'Bob', 'Cy'].entries()) startClient(name, index === 0)
setInterval(() => void moveSomebody(), moveMs)
