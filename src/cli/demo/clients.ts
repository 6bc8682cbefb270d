import { type ChildModule, startModule } from './child-module.ts'
import type { ClientsReport, StartClients } from './clients-messages.ts'

/** The simulated clients, as the demo sees them. */
export class Clients {
  readonly wanted: number
  report: ClientsReport = {
    connected: 0,
    sent: 0,
    answered: 0,
    lost: 0,
    doubled: 0,
    reordered: 0,
    closed: 0,
  }
  private readonly child: ChildModule | null

  /** The process starts at once; its clients connect when `connect` is called. */
  constructor(wanted: number) {
    this.wanted = wanted
    this.child = wanted === 0 ? null : startModule('./clients-process', [])
    this.child?.process.on('message', (report) => {
      this.report = report as ClientsReport
    })
  }

  connect(urls: string[]): void {
    // A failure shows as the end of their process.
    this.child?.process.send({ urls, clients: this.wanted } satisfies StartClients, () => {})
  }

  /** Resolves when their process ended, with how; never when there is none. */
  get ended(): Promise<string> {
    return this.child?.ended ?? new Promise(() => {})
  }

  async kill(): Promise<void> {
    this.child?.process.kill('SIGKILL')
    await this.child?.ended
  }
}
