import { nginxProgram } from '../measure/machine.ts'
import { messageOf, type Remarks } from '../report/remarks.ts'
import { startEvenkeel } from './evenkeel.ts'
import { startNginx } from './nginx.ts'
import type { Application, Peer, PeerName } from './peer.ts'
import { startDirect, startWsProxy } from './plain.ts'

/** A peer that cannot start is left out, with the reason: the others are still worth measuring. */
export async function startPeers(
  names: readonly PeerName[],
  remarks: Remarks,
  kind: Application = 'plain',
): Promise<Peer[]> {
  const peers: Peer[] = []
  for (const name of names) {
    const peer = await startPeer(name, remarks, kind)
    if (peer !== null) peers.push(peer)
  }
  return peers
}

export async function startPeer(
  name: PeerName,
  remarks: Remarks,
  kind: Application = 'plain',
): Promise<Peer | null> {
  try {
    if (name === 'evenkeel') return await startEvenkeel([{ id: 'echo-1' }], kind)
    if (name === 'ws-proxy') return await startWsProxy()
    if (name === 'direct') return await startDirect(kind)
    const program = nginxProgram()
    if (program !== null) return await startNginx(program, kind)
    remarks.notes.push('nginx is not installed, so it is left out; to have it: apt-get install nginx')
  } catch (error) {
    remarks.failures.push(`${name} could not be started: ${messageOf(error)}`)
  }
  return null
}
