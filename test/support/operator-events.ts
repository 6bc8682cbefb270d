import type { OperatorEvent } from '../../src/gateway/operator.ts'
import type { AdminClient } from './admin-client.ts'
import { until, type Waiting } from './until.ts'

export type EventOf<Type extends OperatorEvent['type']> = Extract<OperatorEvent, { type: Type }>

/** All operator events since it was opened, as the gateway streams them. */
export class OperatorEvents {
  readonly all: OperatorEvent[] = []
  private readonly abort = new AbortController()
  private readonly changed = new Set<() => void>()

  static async open(admin: AdminClient): Promise<OperatorEvents> {
    const events = new OperatorEvents()
    const stream = await admin.events(events.abort.signal)
    // It ends with `close`, or with the gateway, whose end the cluster judges.
    events.read(stream).catch(() => {})
    return events
  }

  of<Type extends OperatorEvent['type']>(type: Type): EventOf<Type>[] {
    return this.all.filter((event): event is EventOf<Type> => event.type === type)
  }

  /** The first event, past or to come, that fits. */
  async find<Type extends OperatorEvent['type']>(
    type: Type,
    fits: (event: EventOf<Type>) => boolean,
    waiting: Waiting = {},
  ): Promise<EventOf<Type>> {
    let found: EventOf<Type> | undefined
    await this.until(() => {
      found = this.of(type).find(fits)
      return found !== undefined
    }, waiting)
    return found!
  }

  /** Looks at `condition` now and after each event. */
  until(condition: () => boolean, waiting: Waiting = {}): Promise<void> {
    return until(condition, this.changed, waiting)
  }

  close(): void {
    this.abort.abort()
  }

  private async read(stream: ReadableStream<Uint8Array>): Promise<void> {
    let rest = ''
    const decoder = new TextDecoder()
    for await (const chunk of stream) {
      const blocks = (rest + decoder.decode(chunk, { stream: true })).split('\n\n')
      rest = blocks.pop()!
      for (const block of blocks) {
        const data = block.split('\n').find((line) => line.startsWith('data: '))
        if (data !== undefined) this.all.push(JSON.parse(data.slice('data: '.length)) as OperatorEvent)
      }
      for (const look of [...this.changed]) look()
    }
  }
}
