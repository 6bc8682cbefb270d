import type { Server } from 'socket.io'

/** The echo application of Socket.IO: an event comes back as an event, one with an acknowledgement in that. */
export function echoEvents(io: Server): void {
  io.on('connection', (socket) => {
    socket.on('m', (text: string) => socket.emit('m', text))
    socket.on('msg', (text: string, answer: (text: string) => void) => answer(text))
  })
}
