import { parseArgs } from 'node:util'
import { attachSocketIO } from 'evenkeel/socket.io'
import { Server } from 'socket.io'

/** A Socket.IO server in a process of its own, to be killed: `--id`, `--gateway`, `--emitters` (the URL of a Redis). */

const text = { type: 'string' } as const
const { values } = parseArgs({ options: { id: text, gateway: text, emitters: text } })
const io = new Server()
const { id, gateway, emitters } = values
const attached = attachSocketIO(io, {
  id: id!,
  gateways: [gateway!],
  ...(emitters === undefined ? {} : { emitters: { redis: emitters } }),
})
io.on('connection', (socket) => {
  if (!socket.recovered) {
    socket.data.count = 0
    void socket.join(['all', socket.handshake.auth.room])
  }
  socket.on('count', (answer) => answer(++socket.data.count, id, socket.recovered))
  socket.on('rooms', (answer) => answer([...socket.rooms].sort()))
})
io.of('/second').on('connection', (socket) => {
  socket.on('who', (answer) => answer(socket.id, id))
})
await attached.ready
process.send?.('ready')
