import type { Connection } from './connection.ts'
import { maskedFrame } from './payload.ts'

const connectPacket = maskedFrame(0x1, Buffer.from('40'))
const pongPacket = maskedFrame(0x1, Buffer.from('3'))

/** The little of Engine.IO and Socket.IO that a client must answer. Says whether that connected it; null: it is something else. */
export function answerPacket(connection: Connection, packet: string): boolean | null {
  if (packet.startsWith('0{')) connection.socket.write(connectPacket)
  else if (packet === '2') connection.socket.write(pongPacket)
  else return packet.startsWith('40{') ? true : null
  return false
}
