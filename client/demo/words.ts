/** What the demo's page and the demo's nodes say to each other, as JSON. */

/** From the page, as messages of its session. */
export type PageWord =
  | { readonly do: 'join'; readonly room: string; readonly name: string }
  | { readonly do: 'leave'; readonly room: string }
  | {
      readonly do: 'say'
      readonly room: string
      readonly name: string
      readonly text: string
      readonly id: string
    }

/** To the page, as outputs of its session. */
export type NodeWord =
  /** The session is at this node now. */
  | { readonly is: 'here'; readonly node: string }
  /** What was said in the room lately. */
  | { readonly is: 'room'; readonly room: string; readonly lines: readonly ChatLine[] }

/** In a room's channel. */
export interface ChatLine {
  /** Made by the page that says it. */
  readonly id: string
  readonly name: string
  readonly text: string
  /** The one that passed it on. */
  readonly node: string
}

export const rooms = ['harbour', 'lighthouse', 'engine room'] as const

/** The channel of a room. */
export function channelOf(room: string): string {
  return `room:${room}`
}

/** What a run of the demo is asked for. */
export interface StoryRequest {
  readonly prompt: string
}

/** Name of the demo's run. */
export const storyName = 'story'

/** Kind of the part in which a producer says who it is. */
export const producerKind = 'producer'

/** What the page asks the demo for, at `POST /demo/do`. */
export type DemoAction =
  | { readonly do: 'kill-node'; readonly node: string }
  | { readonly do: 'migrate'; readonly session: string }
  | { readonly do: 'kill-gateway'; readonly session: string }
  | { readonly do: 'look' }

export interface DemoAnswer {
  /** What has happened, in a sentence. */
  readonly text: string
  /** More than one gateway. */
  readonly cluster: boolean
}
