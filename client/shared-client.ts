import type { Payload } from '../src/protocol/client-frames.ts'
import { Listeners } from './listeners.ts'
import { locks } from './locks.ts'
import { Run } from './run.ts'
import { RunError } from './run-error.ts'
import { SendError } from './send-error.ts'
import type { TabEar, TabWay } from './shared-ways.ts'
import type { HostWord, TabWord } from './shared-words.ts'
import type { ClientEvents, ClientState, Listener, RunOptions } from './types.ts'

interface PendingSend {
  readonly word: TabWord
  /** It was given to a host: the node may have it. */
  given: boolean
  resolve(): void
  reject(error: SendError): void
}

interface PendingRun {
  readonly run: Run
  readonly word: TabWord & { is: 'run' }
  cancelled: boolean
}

const lostHost = 'the tab that had the connection is gone'

/** A client that several tabs share, as one of them sees it. */
export class SharedClient {
  state: ClientState = 'connecting'
  /** Id of the session, which all tabs share; null before there is one. */
  session: string | null = null
  readonly #listeners = new Listeners()
  readonly #way: TabWay
  readonly #lock: string
  readonly #sends = new Map<number, PendingSend>()
  readonly #runs = new Map<number, PendingRun>()
  readonly #gone = Promise.withResolvers<void>()
  #hosted = false
  #last = 0

  constructor(tab: string, open: (ear: TabEar) => TabWay) {
    this.#lock = `evenkeel:tab:${tab}`
    // Whoever waits for it learns that this tab is gone, however it went.
    const held = new Promise<void>((resolve) => {
      const hold = () => {
        resolve()
        return this.#gone.promise
      }
      if (locks()?.request(this.#lock, {}, hold) === undefined) resolve()
    })
    // Not before: a host that got the lock first would take this tab for gone.
    this.#way = open({
      hear: (word) => this.#hear(word),
      begin: () => void held.then(() => this.#begin()),
    })
  }

  /** As that of `EvenkeelClient`. */
  on<Event extends keyof ClientEvents>(event: Event, listener: Listener<Event>): () => void {
    return this.#listeners.add(event, listener)
  }

  /** As that of `EvenkeelClient`. Rejects with GONE, outcome `unknown`, also when the tab that had the connection is gone. */
  send(data: Payload): Promise<void> {
    const promise = new Promise<void>((resolve, reject) => {
      if (this.state === 'closed') throw new SendError('GONE', 'the client is closed')
      const id = ++this.#last
      const pending = { word: { is: 'send', id, data } as const, given: this.#hosted, resolve, reject }
      this.#sends.set(id, pending)
      if (this.#hosted) this.#way.post(pending.word)
    })
    promise.catch(() => {})
    return promise
  }

  /** As that of `EvenkeelClient`. It goes on when another tab takes the connection over. */
  run(name: string, body: unknown, { key = randomKey(), ...options }: RunOptions = {}): Run {
    return this.#read(null, null, { name, body, options: { ...options, key } })
  }

  /** As that of `EvenkeelClient`. */
  attach(run: string, after: string | null = null): Run {
    return this.#read(run, after, { name: '', body: null, options: {} })
  }

  /** This tab leaves; the session goes on while there are others. In the tab that has the connection without a worker, it ends. */
  close(): void {
    if (this.state === 'closed') return
    this.#way.post({ is: 'bye' })
    this.#end('the client was closed')
    this.#listeners.call('close', { code: 1000, reason: '', kind: 'closed' })
    this.#way.close()
  }

  #read(
    run: string | null,
    after: string | null,
    what: Pick<PendingRun['word'], 'name' | 'body' | 'options'>,
  ): Run {
    const id = ++this.#last
    const own = new Run(run, after, {
      grant: (bytes) => this.#tell({ is: 'grant', id, bytes }),
      cancel: () => {
        pending.cancelled = true
        this.#tell({ is: 'cancel', id })
      },
      detach: () => {
        if (this.#runs.delete(id)) this.#tell({ is: 'detach', id })
      },
    })
    const pending: PendingRun = { run: own, word: { is: 'run', id, run, after, ...what }, cancelled: false }
    this.#runs.set(id, pending)
    if (this.state === 'closed') this.#end('the client is closed')
    else if (this.#hosted) this.#way.post(pending.word)
    return own
  }

  /** What is said without a host is said again when there is one. */
  #tell(word: TabWord): void {
    if (this.#hosted && this.state !== 'closed') this.#way.post(word)
  }

  #begin(): void {
    if (this.state === 'closed') return
    const isAnother = this.#hosted
    this.#hosted = false
    if (isAnother) {
      for (const [id, { given, reject }] of this.#sends) {
        if (!given) continue
        this.#sends.delete(id)
        reject(new SendError('GONE', lostHost, 'unknown'))
      }
      this.state = 'connecting'
      this.session = null
    }
    this.#way.post({ is: 'open', lock: this.#lock })
  }

  #hear(word: HostWord): void {
    if (this.state === 'closed') return
    if (word.is === 'state') this.#hearState(word)
    else if (word.is === 'event') this.#listeners.call(word.event, word.value as never)
    else if (word.is === 'sent') this.#sent(word)
    else {
      const reading = this.#runs.get(word.id)
      if (reading === undefined) return
      if (word.is === 'run-event') {
        if (word.event.type === 'run') reading.run.id = word.event.run
        reading.run.receive([word.event], word.bytes)
      } else {
        this.#runs.delete(word.id)
        const { error } = word
        reading.run.finish(
          error === null
            ? null
            : new RunError(error.code, error.message, error.retryable, error.retryAfterMs),
        )
      }
    }
  }

  #hearState({ state, session }: HostWord & { is: 'state' }): void {
    const isNew = !this.#hosted
    this.#hosted = true
    this.session = session
    if (isNew) this.#giveAll()
    if (state !== 'closed') this.state = state
    else {
      this.#end('the session has ended')
      this.#way.close()
    }
  }

  #giveAll(): void {
    for (const pending of this.#sends.values()) {
      if (pending.given) continue
      pending.given = true
      this.#way.post(pending.word)
    }
    for (const { run, word, cancelled } of this.#runs.values()) {
      this.#way.post({ ...word, run: run.id, after: run.received })
      if (cancelled) this.#way.post({ is: 'cancel', id: word.id })
    }
  }

  #sent({ id, error }: HostWord & { is: 'sent' }): void {
    const pending = this.#sends.get(id)
    this.#sends.delete(id)
    if (error === null) pending?.resolve()
    else pending?.reject(new SendError(error.code, error.message, error.outcome))
  }

  #end(why: string): void {
    this.state = 'closed'
    this.#gone.resolve()
    for (const { given, reject } of this.#sends.values())
      reject(new SendError('GONE', why, given ? 'unknown' : 'unsent'))
    this.#sends.clear()
    for (const { run } of this.#runs.values()) run.finish(new RunError('GONE', why, false))
    this.#runs.clear()
  }
}

function randomKey(): string {
  return crypto.getRandomValues(new Uint32Array(4)).join('-')
}
