import type { ChannelView, Operator } from '../gateway/operator.ts'
import type { Peers } from './peers.ts'

/** What a gateway answers another one: its own part. */
export interface ChannelPart {
  channel: string
  members: number
}

/**
 * Who is in a channel, asked of every gateway now. Nothing is stored, so there is nothing that a gateway that died could leave
 * behind. Throws BAD_REQUEST (the name).
 */
export async function channelEverywhere(
  operator: Operator,
  peers: Peers,
  name: string,
): Promise<ChannelView> {
  const here = operator.channelMembers(name)
  const others = peers.all().filter(({ self }) => !self)
  const [history, ...answers] = await Promise.all([
    operator.channelHistory(name),
    ...others.map((gateway) =>
      peers.call(gateway, 'GET', `/channels/${encodeURIComponent(name)}`).then(membersIn, () => null),
    ),
  ])
  const counts = new Map<string, number>([[operator.gatewayId, here]])
  const unanswered: string[] = []
  for (const [index, { id }] of others.entries()) {
    const members = answers[index] ?? null
    if (members === null) unanswered.push(id)
    else counts.set(id, members)
  }
  return {
    channel: name,
    members: [...counts.values()].reduce((sum, members) => sum + members, 0),
    gateways: Object.fromEntries(counts),
    unanswered,
    history,
  }
}

/** null: that was no answer to this question, perhaps because the gateway is of another version. */
function membersIn({ status, body }: { status: number; body: unknown }): number | null {
  const { members } = (body ?? {}) as Partial<ChannelPart>
  return status === 200 && Number.isSafeInteger(members) ? members! : null
}
