import { CloseCode } from '../protocol/close-codes.ts'
import type { Gateway } from './gateway.ts'
import type { OperationRecord } from './operations.ts'
import type { Session } from './session.ts'

export interface RunningDrain {
  readonly operation: OperationRecord
  /** Resolves when the clients have left. */
  readonly left: Promise<void>
}

/** A gateway's own drain: its clients leave once, whoever asks first, an operator or a signal. */
export class GatewayDrain {
  private readonly gateway: Gateway
  private readonly turnAway: () => Promise<void>
  private running: RunningDrain | null = null

  /** `turnAway` sees to it that new clients go elsewhere: only its caller knows listeners and registry entries. */
  constructor(gateway: Gateway, turnAway: () => Promise<void>) {
    this.gateway = gateway
    this.turnAway = turnAway
  }

  begin(): RunningDrain {
    this.running ??= this.run()
    return this.running
  }

  private run(): RunningDrain {
    const { gateway } = this
    const total = connected(gateway).length
    const operation = gateway.operations.start('drain-gateway', gateway.id, total)
    operation.countMoved = () => Math.max(0, total - connected(gateway).length)
    gateway.rebalancer.retire()
    const left = this.leave().then(
      () => operation.end('done'),
      (error: unknown) => {
        operation.end('failed')
        throw error
      },
    )
    // An operator sees it in the operation; whoever waits for it hears of it.
    left.catch(() => {})
    return { operation, left }
  }

  private async leave(): Promise<void> {
    await Promise.all([this.gateway.leave(), this.turnAway()])
    // Clients that were asked to go and have not: the process may stay, and is to be empty.
    for (const session of connected(this.gateway))
      session.closeClient(CloseCode.serviceRestart, 'the gateway stops')
  }
}

function connected({ sessions }: Gateway): Session[] {
  return [...sessions.values()].filter(({ connection, listed }) => listed && connection !== null)
}
