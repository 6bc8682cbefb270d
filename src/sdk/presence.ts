import { type PresentMember, parsePresence, presenceChannel, presenceMs } from '../protocol/presence.ts'
import type { EvenkeelNode } from './node.ts'
import type { Json, Session } from './types.ts'

/** So many members go into one message. */
const membersPerWord = 100
/** Whoever comes in this time gets one answer. */
const answerMs = 200

export interface Presence {
  /**
   * The session is in the channel, as this: whoever is in it hears so, and the session hears who is there. Say it again to change `data`, and in `open` of a
   * session that was recovered. At most 1 KiB of JSON.
   */
  enter(session: Session, channel: string, data: Json): void
  /** It is not any more. */
  leave(session: Session, channel: string): void
  /** For `close`: it is nowhere any more. One that has only moved says so elsewhere. */
  closed(session: Session, cause: string): void
  /** Stops the timers. */
  stop(): void
}

/**
 * Presence made of channel messages, since nobody else knows what a member is called: each node tells of its own sessions. It is what was last said, not
 * a transaction: whoever vanishes with a node is gone after 45 s. Each member costs a message to each other one when it comes and goes, and a share of one every
 * 15 s: for rooms of people, not for broadcasts.
 */
export function createPresence(node: Pick<EvenkeelNode, 'publish' | 'subscribe'>): Presence {
  const rooms = new Map<string, Room>()
  const roomOf = (channel: string) => {
    const room = rooms.get(channel) ?? new Room(node, channel)
    rooms.set(channel, room)
    return room
  }
  const leave = (session: Session, channel: string, tell: boolean) => {
    if (rooms.get(channel)?.leave(session.id, tell)) rooms.delete(channel)
  }
  const timer = setInterval(() => {
    for (const room of rooms.values()) room.tell()
  }, presenceMs / 3)
  timer.unref()
  return {
    enter(session, channel, data) {
      session.join(presenceChannel(channel))
      roomOf(channel).enter({ id: session.id, data })
    },
    leave(session, channel) {
      session.leave(presenceChannel(channel))
      leave(session, channel, true)
    },
    closed(session, cause) {
      const isOver = cause === 'client' || cause === 'node'
      for (const channel of [...rooms.keys()]) leave(session, channel, isOver)
    },
    stop() {
      clearInterval(timer)
      for (const room of rooms.values()) room.stop()
      rooms.clear()
    },
  }
}

/** The members of one channel whose sessions are here. */
class Room {
  private readonly node: Pick<EvenkeelNode, 'publish' | 'subscribe'>
  private readonly channel: string
  private readonly members = new Map<string, PresentMember>()
  private readonly unsubscribe: () => void
  private answer: NodeJS.Timeout | null = null

  constructor(node: Pick<EvenkeelNode, 'publish' | 'subscribe'>, channel: string) {
    this.node = node
    this.channel = presenceChannel(channel)
    this.unsubscribe = node.subscribe(this.channel, (data) => {
      const word = parsePresence(data)
      if (word !== null && 'enter' in word) this.answer ??= setTimeout(() => this.tell(), answerMs)
    })
  }

  enter(member: PresentMember): void {
    this.members.set(member.id, member)
    this.node.publish(this.channel, JSON.stringify({ enter: member }))
  }

  /** True when nobody is left here. */
  leave(id: string, tell: boolean): boolean {
    if (this.members.delete(id) && tell) this.node.publish(this.channel, JSON.stringify({ leave: id }))
    if (this.members.size > 0) return false
    this.stop()
    return true
  }

  tell(): void {
    this.answer = null
    const members = [...this.members.values()]
    for (let i = 0; i < members.length; i += membersPerWord)
      this.node.publish(this.channel, JSON.stringify({ here: members.slice(i, i + membersPerWord) }))
  }

  stop(): void {
    if (this.answer !== null) clearTimeout(this.answer)
    this.unsubscribe()
  }
}
