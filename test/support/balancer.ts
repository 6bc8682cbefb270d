import type { BalancerActions } from './balancer-process.ts'
import { CallableProcess } from './resumable-calls.ts'

/** One address for several gateways: a TCP balancer in a process of its own. */
export class Balancer implements AsyncDisposable {
  readonly port: number
  private readonly process: CallableProcess<BalancerActions>

  private constructor(process: CallableProcess<BalancerActions>, port: number) {
    this.process = process
    this.port = port
  }

  static async start(): Promise<Balancer> {
    const process = new CallableProcess<BalancerActions>('balancer', 'test/support/balancer-process.ts')
    return new Balancer(process, await process.call('listen'))
  }

  /** New connections go there. Those that are there stay. */
  setTargets(ports: readonly number[]): Promise<void> {
    return this.process.call('setTargets', [...ports])
  }

  /** Resets the clients whose connections lead there, and tells the gateway nothing. Returns how many. */
  cut(port: number): Promise<number> {
    return this.process.call('cut', port)
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.process[Symbol.asyncDispose]()
  }
}
