import { type Claims, claimTexts } from './claims.ts'

export type ChannelAction = 'join' | 'publish'

/** Who may do what in which channels. */
export interface ChannelPermission {
  /** A channel's name; `*` stands for any text, `{claim}` for the value of a claim, or for each of a list. */
  readonly match: string
  readonly allow: readonly ChannelAction[]
  /** Claims that the user must have: the value, or one of the list, is among these. Absent: nobody is asked. */
  readonly claims?: Readonly<Record<string, readonly string[]>>
}

/** Claims with more values than that do not stand for all of them. */
const valuesMost = 256

/** Whether one of the rules allows it. What no rule allows is not allowed. */
export function mayUseChannel(
  rules: readonly ChannelPermission[],
  claims: Claims,
  channel: string,
  action: ChannelAction,
): boolean {
  return rules.some(
    (rule) =>
      rule.allow.includes(action) &&
      fits(rule.match, claims, channel) &&
      hasClaims(rule.claims ?? {}, claims),
  )
}

function hasClaims(wanted: Readonly<Record<string, readonly string[]>>, claims: Claims): boolean {
  return Object.entries(wanted).every(([claim, values]) =>
    claimTexts(claims, claim).some((value) => values.includes(value)),
  )
}

type Piece = { readonly text: string } | { readonly claim: string } | '*'

/** What a pattern is made of. */
function piecesOf(pattern: string): Piece[] {
  const found = pattern.match(/\{[^{}]+\}|\*|[^{*]+|\{/g) ?? []
  return found.map((piece): Piece => {
    if (piece === '*') return '*'
    return /^\{[^{}]+\}$/.test(piece) ? { claim: piece.slice(1, -1) } : { text: piece }
  })
}

function fits(pattern: string, claims: Claims, channel: string): boolean {
  // Places up to which the pieces so far may reach: a value of a claim is text as it is, whatever stands in it.
  let ends = new Set([0])
  for (const piece of piecesOf(pattern)) {
    const next = new Set<number>()
    if (piece === '*') {
      for (let at = Math.min(...ends); at <= channel.length; at++) next.add(at)
    } else {
      const texts = 'text' in piece ? [piece.text] : claimTexts(claims, piece.claim).slice(0, valuesMost)
      // An empty value would make `user:{sub}` a rule for `user:`.
      for (const at of ends)
        for (const text of texts) if (text !== '' && channel.startsWith(text, at)) next.add(at + text.length)
    }
    if (next.size === 0) return false
    ends = next
  }
  return ends.has(channel.length)
}
