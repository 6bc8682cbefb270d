import type { Server, Socket } from 'node:net'
import { Counts } from '../../core/limits/counts.ts'
import { isListed, networkOf } from '../../core/limits/network.ts'
import type { RefusalReason } from '../../core/limits/rules.ts'
import type { Gateway } from '../../gateway/gateway.ts'
import { peerAddress } from '../peer-address.ts'
import type { LiveSettings } from '../target.ts'

/** Who has as many connections as it may gets an answer that says so on others: up to this many times as many. */
const answeredShare = 2

export interface DoorOptions {
  readonly gateway: Pick<Gateway, 'pressure'>
  readonly settings: LiveSettings
  refused(reason: RefusalReason): void
}

/**
 * Where TCP connections come in, before anything was said on them. Most are refused later, with an answer; here those are cut that are
 * not even to cost one: of addresses that have far too many, and all new ones while the gateway can hardly do its work.
 */
export class Door {
  private readonly options: DoorOptions
  private readonly byNetwork = new Counts<string>()
  /** TCP connections of clients that are open now. */
  open = 0

  constructor(server: Server, options: DoorOptions) {
    this.options = options
    server.on('connection', (socket: Socket) => this.entered(socket))
  }

  private entered(socket: Socket): void {
    const address = peerAddress(socket)
    // It has gone already.
    if (address === '') return
    const { rateLimits, trust } = this.options.settings.current
    const { deny, exempt, perIp } = rateLimits
    const network = networkOf(address)
    // A trusted proxy has many clients; each is looked at by its own address, once it is known.
    const isKnown = isListed(address, exempt) || isListed(address, trust?.proxies ?? [])
    const reason = isKnown ? null : this.reasonAgainst(address, network, deny, perIp.connections)
    if (reason !== null) {
      this.options.refused(reason)
      socket.resetAndDestroy()
      return
    }
    this.open++
    this.byNetwork.add(network)
    socket.once('close', () => {
      this.open--
      this.byNetwork.remove(network)
    })
  }

  private reasonAgainst(
    address: string,
    network: string,
    deny: Parameters<typeof isListed>[1],
    connections: number | undefined,
  ): RefusalReason | null {
    if (this.options.gateway.pressure === 'critical') return 'overload'
    if (isListed(address, deny)) return 'denied'
    const isFull = connections !== undefined && this.byNetwork.of(network) >= connections * answeredShare
    return isFull ? 'ip-connections' : null
  }
}
