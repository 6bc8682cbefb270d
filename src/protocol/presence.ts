/** Who is in a channel, as nodes say it to members (docs/client.md, "Presence"). Browser-safe. */

export interface PresentMember {
  /** Of the session. */
  readonly id: string
  /** What the node says of it, as JSON. */
  readonly data: unknown
}

/** `enter`: somebody has come, and nodes answer with `here`. `here`: they are there. `leave`: this one has gone. */
export type PresenceWord =
  | { readonly enter: PresentMember }
  | { readonly here: readonly PresentMember[] }
  | { readonly leave: string }

/** Who was not heard of for so long is not there. A node says it anew three times in that time. */
export const presenceMs = 45_000

/** Where the words about a channel's members go: a channel of its own. */
export function presenceChannel(channel: string): string {
  return `presence:${channel}`
}

/** null for what is none. */
export function parsePresence(data: unknown): PresenceWord | null {
  try {
    const word = JSON.parse(data as string)
    const isMember = (value: PresentMember) => typeof value?.id === 'string'
    const isWord =
      typeof word.leave === 'string' ||
      (word.enter !== undefined && isMember(word.enter)) ||
      (Array.isArray(word.here) && word.here.every(isMember))
    return isWord ? word : null
  } catch {
    return null
  }
}
