import { EvenkeelError } from '../src/protocol/errors.ts'
import type { EvenkeelClient } from './client.ts'
import { locks } from './locks.ts'
import { SharedHost } from './shared-host.ts'
import type { HostWord, TabWord } from './shared-words.ts'

/** A tab's way to the host. */
export interface TabWay {
  post(word: TabWord): void
  close(): void
}

export interface TabEar {
  /** What the host says. */
  hear(word: HostWord): void
  /** There is a host that knows nothing of this tab yet. */
  begin(): void
}

/** The part of a MessagePort that is used. */
export interface PortLike {
  onmessage: ((event: never) => void) | null
  postMessage(message: unknown): void
  close(): void
}

export interface SharedWorkerLike {
  readonly port: PortLike
}

export function workerWay({ port }: SharedWorkerLike, ear: TabEar): TabWay {
  port.onmessage = ({ data }: { data: HostWord }) => ear.hear(data)
  // The port exists before the worker does, and keeps what is posted.
  queueMicrotask(() => ear.begin())
  return { post: (word) => port.postMessage(word), close: () => port.close() }
}

interface FromTab {
  readonly from: string
  readonly word: TabWord
}

type Broadcast = FromTab | { readonly to: string; readonly word: HostWord } | { readonly leads: true }

/** The tab that holds a lock has the client; the others talk to it by a channel. When it goes, the next one has a client of its own. */
export function leaderWay(name: string, tab: string, connect: () => EvenkeelClient, ear: TabEar): TabWay {
  const held = locks()
  if (held === undefined)
    throw new EvenkeelError('BAD_REQUEST', 'this browser has no Web Locks; use connect of evenkeel/client')
  const channel = new BroadcastChannel(`evenkeel:${name}`)
  const left = new AbortController()
  const say = (message: Broadcast) => {
    if (!left.signal.aborted) channel.postMessage(message)
  }
  let own: ((word: TabWord) => void) | null = null
  let leading: ((message: FromTab) => void) | null = null

  const lead = (): Promise<void> => {
    // The lock may be granted in the moment in which the tab leaves.
    if (left.signal.aborted) return Promise.resolve()
    const client = connect()
    const host = new SharedHost(client)
    const others = new Map<string, (word: TabWord) => void>()
    // Later, as to the others: what this tab does then must not keep words from them.
    own = host.add({ post: (word) => queueMicrotask(() => ear.hear(word)) })
    leading = ({ from, word }) => {
      const take =
        others.get(from) ??
        host.add({ post: (answer) => say({ to: from, word: answer }) }, () => others.delete(from))
      others.set(from, take)
      take(word)
    }
    say({ leads: true })
    ear.begin()
    return new Promise<void>((resolve) =>
      left.signal.addEventListener('abort', () => {
        host.leave()
        client.close()
        resolve()
      }),
    )
  }
  channel.onmessage = ({ data }: { data: unknown }) => {
    const message = data as Broadcast
    if ('from' in message) leading?.(message)
    else if ('leads' in message) ear.begin()
    else if (message.to === tab) ear.hear(message.word)
  }
  // Aborted when the tab has left before its turn came.
  held.request(`evenkeel:${name}`, { signal: left.signal }, lead).catch(() => {})
  // There may be one that leads already; nobody answers where there is not.
  queueMicrotask(() => ear.begin())
  return {
    post: (word) => (own === null ? say({ from: tab, word }) : own(word)),
    close: () => {
      left.abort()
      channel.close()
    },
  }
}
