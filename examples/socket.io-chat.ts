/**
 * A chat in Socket.IO with rooms, typing and presence, made a node by one line. One process runs it all: a gateway, this application
 * twice, and three clients that stay connected while one of the two is drained.
 *
 *   npm run example:socket.io
 *
 * With --gateway it is one node of a gateway that runs already, for clients of yours:
 *
 *   npm run example:socket.io -- --id chat-1 --gateway ws://127.0.0.1:8081
 */
import { parseArgs } from 'node:util'
import { attachSocketIO } from 'evenkeel/socket.io'
import { Server } from 'socket.io'
import { io as connect, type Socket } from 'socket.io-client'
import { loadConfig } from '../src/cli/config.ts'
import { createLogger } from '../src/cli/logger.ts'
import { startGateway } from '../src/cli/start-gateway.ts'

const { values } = parseArgs({
  options: { id: { type: 'string', default: `chat-${process.pid}` }, gateway: { type: 'string' } },
})

/** The application: it would be the same without Evenkeel, but for the two lines that say so. */
function chat(name: string): Server {
  const io = new Server()
  io.on('connection', async (socket) => {
    const others = () => socket.to(socket.data.room)
    const present = async () => {
      const sockets = await io.in(socket.data.room).fetchSockets()
      return sockets.map(({ data }) => data.user).sort()
    }
    const enter = async (room: string) => {
      if (socket.data.room !== undefined) {
        others().emit('left', socket.data.user)
        await socket.leave(socket.data.room)
      }
      socket.data.room = room
      await socket.join(room)
      others().emit('joined', socket.data.user)
    }
    socket.on('enter', async (room: string, answer) => {
      await enter(room)
      answer(await present())
    })
    socket.on('who', async (answer) => answer(await present()))
    socket.on('typing', () => others().emit('typing', socket.data.user))
    socket.on('say', (text: string, answer) => {
      const { room, user } = socket.data
      io.to(room).emit('said', `${user} (${++socket.data.said}, by way of ${name}): ${text}`)
      answer()
    })
    socket.on('disconnect', (reason: string) => {
      if (reason === 'server migration') return // Evenkeel: the client is still there, at another server
      others().emit('left', socket.data.user)
    })
    if (socket.recovered) return // Evenkeel: the client comes from another server, with its rooms and data
    socket.data = { user: String(socket.handshake.auth.user), said: 0 }
    await enter('lobby')
  })
  return io
}

function attach(id: string, gateway: string) {
  const options = { id, gateways: [gateway], drainOnSigterm: values.gateway !== undefined }
  return attachSocketIO(chat(id), options) // Evenkeel: the one line
}

/** A client, as always. */
async function client(url: string, user: string): Promise<Socket> {
  const socket = connect(url, { forceNew: true, auth: { user } })
  socket.on('said', (line: string) => console.log(`  ${user} hears: ${line}`))
  socket.on('typing', (who: string) => console.log(`  ${user} sees: ${who} is typing`))
  socket.on('joined', (who: string) => console.log(`  ${user} sees: ${who} has come`))
  socket.on('left', (who: string) => console.log(`  ${user} sees: ${who} has gone`))
  socket.on('disconnect', (reason) => console.log(`  ${user} is disconnected: ${reason}`))
  await next(socket, 'connect')
  return socket
}

const next = (socket: Socket, event: string) => new Promise<void>((resolve) => socket.once(event, resolve))

async function demonstrate(): Promise<void> {
  const free = { host: '127.0.0.1', port: 0 }
  const { config } = await loadConfig({ env: {} })
  const tokens = { nodeToken: null, adminToken: null }
  const gateway = await startGateway(
    { ...config, public: free, internal: free },
    tokens,
    createLogger('error'),
  )
  const link = `ws://127.0.0.1:${gateway.internalPort}`
  const first = attach('chat-1', link)
  await first.ready
  const url = `http://127.0.0.1:${gateway.publicPort}`
  const ann = await client(url, 'ann')
  const second = attach('chat-2', link)
  await second.ready
  const [bob, cy] = [await client(url, 'bob'), await client(url, 'cy')]

  await ann.emitWithAck('enter', 'tea')
  console.log(`in the tea room: ${await bob.emitWithAck('enter', 'tea')}`)
  console.log(`in the chess room: ${await cy.emitWithAck('enter', 'chess')}`)
  const say = async (text: string) => {
    const seen = next(bob, 'typing')
    ann.emit('typing')
    await seen
    const heard = Promise.all([next(ann, 'said'), next(bob, 'said')])
    await ann.emitWithAck('say', text)
    await heard
  }
  await say('anybody for tea?')

  console.log('chat-1 is drained …')
  await first.drain()
  await say('still connected, still counting')
  const came = next(ann, 'joined')
  await cy.emitWithAck('enter', 'tea')
  await came
  console.log(`in the tea room: ${await cy.emitWithAck('who')}`)
  const gone = next(ann, 'left')
  bob.disconnect()
  await gone
  console.log(`in the tea room: ${await ann.emitWithAck('who')}`)

  ann.disconnect()
  cy.disconnect()
  await second.stop()
  await gateway.close()
}

if (values.gateway === undefined) await demonstrate()
else await attach(values.id, values.gateway).ready
