import type { OperatorEvent } from '../../src/gateway/operator.ts'
import type { TestGateway } from './in-process.ts'
import { until } from './until.ts'

type Migration = Extract<OperatorEvent, { type: 'migration' }>

/** The migrations of a gateway in this process, as its operator hears of them. */
export class Migrations {
  readonly ended: Migration[] = []
  private readonly gateway: TestGateway
  private readonly looks = new Set<() => void>()

  constructor(gateway: TestGateway) {
    this.gateway = gateway
    gateway.operator.onEvent((event) => {
      if (event.type !== 'migration') return
      this.ended.push(event)
      for (const look of [...this.looks]) look()
    })
  }

  /** Starts one; the result resolves with how it ended. */
  start(session: string, to: string): Promise<Migration> {
    const before = this.ended.length
    this.gateway.operator.migrate(session, to)
    return this.nth(before)
  }

  /** The end number `index`, past or to come. */
  async nth(index: number): Promise<Migration> {
    await until(() => this.ended.length > index, this.looks, { what: `the end of migration ${index}` })
    return this.ended[index]!
  }

  get outcomes(): string[] {
    return this.ended.map(({ outcome }) => outcome)
  }
}
