import { parseArgs } from 'node:util'
import { attachSocketIO } from 'evenkeel/socket.io'
import { Server } from 'socket.io'

/** A Socket.IO server in a process of its own, to be killed: `--id`, `--gateway`. */

const { values } = parseArgs({ options: { id: { type: 'string' }, gateway: { type: 'string' } } })
const io = new Server()
const attached = attachSocketIO(io, { id: values.id!, gateways: [values.gateway!] })
io.on('connection', (socket) => {
  if (!socket.recovered) {
    socket.data.count = 0
    void socket.join(['all', socket.handshake.auth.room])
  }
  socket.on('count', (answer) => answer(++socket.data.count, values.id, socket.recovered))
  socket.on('rooms', (answer) => answer([...socket.rooms].sort()))
})
io.of('/second').on('connection', (socket) => {
  socket.on('who', (answer) => answer(socket.id, values.id))
})
await attached.ready
process.send?.('ready')
