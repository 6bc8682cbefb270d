import type { Session } from './session.ts'

/** A room's name: what the application uses as such, so 1 and '1' are two. */
export type RoomName = string | number

/** A session in one scope. */
export interface Member {
  readonly session: Session
  readonly rooms: Set<RoomName>
}

interface Scope {
  readonly members: Set<Member>
  readonly rooms: Map<RoomName, Set<Member>>
}

/** Who is meant: all in one of `rooms`, or in the scope when none is named, without those in one of `except`. */
export interface Audience {
  readonly scope: string
  readonly rooms: readonly RoomName[]
  readonly except: readonly RoomName[]
}

/** Rooms of one member; more are refused, so that a node's mistake does not fill the gateway's memory. */
const roomsPerMember = 4_096

/**
 * Rooms of this gateway's sessions, by pool and scope. Unlike a channel a room is no topic of its own: a message goes to a
 * union of rooms, each member gets it once, and others can be left out. Membership stays when the session moves.
 */
export class Rooms {
  private readonly scopes = new Map<string, Scope>()

  /** Returns the rooms that it could not join. */
  join(session: Session, name: string, rooms: readonly RoomName[]): RoomName[] {
    const scope = this.open(session.pool, name)
    let member = session.members.get(name)
    if (member === undefined) {
      member = { session, rooms: new Set() }
      session.members.set(name, member)
      scope.members.add(member)
    }
    return rooms.filter((room) => !enter(scope, member, room))
  }

  leave(session: Session, name: string, rooms: readonly RoomName[]): void {
    const scope = this.scopes.get(scopeKey(session.pool, name))
    const member = session.members.get(name)
    if (scope === undefined || member === undefined) return
    for (const room of rooms) exit(scope, member, room)
  }

  /** The session is no member of the scope any more. */
  end(session: Session, name: string): void {
    const member = session.members.get(name)
    const key = scopeKey(session.pool, name)
    const scope = this.scopes.get(key)
    if (member === undefined || scope === undefined) return
    for (const room of [...member.rooms]) exit(scope, member, room)
    session.members.delete(name)
    scope.members.delete(member)
    if (scope.members.size === 0) this.scopes.delete(key)
  }

  leaveAll(session: Session): void {
    for (const name of [...session.members.keys()]) this.end(session, name)
  }

  /** Each once; the list stays as it is whatever is done with its members. */
  of(pool: string, { scope: name, rooms, except }: Audience): Session[] {
    const scope = this.scopes.get(scopeKey(pool, name))
    if (scope === undefined) return []
    const excluded = new Set<Member>()
    for (const room of except) for (const member of scope.rooms.get(room) ?? []) excluded.add(member)
    const found = new Set<Member>()
    const groups = rooms.length === 0 ? [scope.members] : rooms.map((room) => scope.rooms.get(room) ?? [])
    for (const group of groups) for (const member of group) if (!excluded.has(member)) found.add(member)
    return [...found].map(({ session }) => session)
  }

  private open(pool: string, name: string): Scope {
    const key = scopeKey(pool, name)
    let scope = this.scopes.get(key)
    if (scope === undefined) {
      scope = { members: new Set(), rooms: new Map() }
      this.scopes.set(key, scope)
    }
    return scope
  }
}

function scopeKey(pool: string, name: string): string {
  return `${pool} ${name}`
}

function enter(scope: Scope, member: Member, name: RoomName): boolean {
  if (member.rooms.has(name)) return true
  if (member.rooms.size >= roomsPerMember) return false
  member.rooms.add(name)
  const room = scope.rooms.get(name)
  if (room === undefined) scope.rooms.set(name, new Set([member]))
  else room.add(member)
  return true
}

function exit(scope: Scope, member: Member, name: RoomName): void {
  const room = scope.rooms.get(name)
  member.rooms.delete(name)
  if (room?.delete(member) && room.size === 0) scope.rooms.delete(name)
}
