import type { Handling, Output } from './ledger-message.ts'

/** What went wrong, in numbers of messages. All zero is what Evenkeel promises. */
export interface Faults {
  /** Client messages without an echo, and gaps between outputs. */
  lost: number
  /** Messages handled twice, and outputs that came twice without a redelivery that explains it. */
  doubled: number
  /** Messages handled, or outputs delivered, after one with a higher number. */
  reordered: number
  /** The state was not that of the message before, or not what the hooks have made of it. */
  miscounted: number
  /** Not what was sent, or of another session. */
  corrupted: number
}

export interface Verdict extends Faults {
  sent: number
  answered: number
  outputs: number
  /** Outputs that came again because their message was redelivered. */
  repeated: number
  /** `count` of the last echo: messages handled, as the nodes' state has it. */
  count: number
  session: string | null
  /** The first faults, in words. */
  notes: string[]
}

export const noFaults: Readonly<Faults> = { lost: 0, doubled: 0, reordered: 0, miscounted: 0, corrupted: 0 }

const notesMax = 8

/**
 * One client's books. Judges from the payloads alone what became of its messages and of the node's outputs,
 * whatever the gateway believes.
 */
export class Ledger {
  private sent = 0
  private session: string | null = null
  private readonly faults: Faults = { ...noFaults }
  private readonly notes: string[] = []
  /** Message of each output, by the output's number. */
  private readonly messageOf: number[] = []
  private readonly missingOutputs = new Set<number>()
  private lastOutput = 0
  /** Number of the output that came last; lower than `lastOutput` while outputs are repeated. */
  private cursor = 0
  private repeated = 0
  private readonly missingMessages = new Set<number>()
  private lastMessage = 0
  private answeredCount = 0
  private count = 0
  private sum = 0

  /** Returns the number of the message that is being sent. */
  send(): number {
    return ++this.sent
  }

  get answered(): number {
    return this.answeredCount
  }

  get outstanding(): number {
    return this.sent - this.answeredCount
  }

  /** An output arrived. Its pad is judged by the caller, who knows what it should be. */
  hear(output: Output): void {
    this.session ??= output.session
    if (output.session !== this.session) this.corrupt(`output of session ${output.session}`)
    if (output.unpaired !== 0)
      this.note('miscounted', `${output.unpaired} unpaired hooks in term ${output.term}`)
    if (this.place(output) && output.kind === 'echo') this.answer(output)
  }

  corrupt(what: string): void {
    this.note('corrupted', what)
  }

  /** Answers that cannot come any more. */
  lose(count: number, what: string): void {
    this.note('lost', what, count)
  }

  verdict(): Verdict {
    const { lost } = this.faults
    return {
      ...this.faults,
      lost: lost + this.missingOutputs.size + this.outstanding,
      sent: this.sent,
      answered: this.answeredCount,
      outputs: this.lastOutput - this.missingOutputs.size,
      repeated: this.repeated,
      count: this.count,
      session: this.session,
      notes: this.notes,
    }
  }

  /** Node to client. Returns true when the output is a new one. */
  private place({ o, n, redelivered }: Output): boolean {
    const { cursor } = this
    this.cursor = o
    if (o > this.lastOutput) {
      this.messageOf[o] = n
      if (cursor < this.lastOutput) this.note('reordered', `output ${o} after ${cursor}, which was repeated`)
      for (let gap = this.lastOutput + 1; gap < o; gap++) this.missingOutputs.add(gap)
      this.lastOutput = o
      return true
    }
    if (this.missingOutputs.delete(o)) {
      this.messageOf[o] = n
      this.note('reordered', `output ${o} after ${cursor}`)
      return true
    }
    if (!redelivered) {
      this.note('doubled', `output ${o} of message ${n} again`)
      return false
    }
    this.repeated++
    // Outputs are repeated from some point on, one after the other; a second fault may start that anew.
    if (o > cursor + 1) this.note('reordered', `output ${o} repeated after ${cursor}`)
    if (this.messageOf[o] !== n)
      this.note('miscounted', `output ${o} was of message ${this.messageOf[o]}, is of ${n}`)
    return false
  }

  /** Client to node. */
  private answer({ n, count, sum }: Output): void {
    const twice = n <= this.lastMessage && !this.missingMessages.has(n)
    if (n > this.sent) {
      this.corrupt(`echo of message ${n}, but ${this.sent} were sent`)
      return
    }
    if (twice) {
      this.note('doubled', `message ${n} handled again`)
    } else {
      this.answeredCount++
      if (this.missingMessages.delete(n)) this.note('reordered', `message ${n} handled late`)
      for (let gap = this.lastMessage + 1; gap < n; gap++) this.missingMessages.add(gap)
      this.lastMessage = Math.max(this.lastMessage, n)
    }
    if (count !== this.count + 1 || sum !== this.sum + n)
      this.note('miscounted', `count ${this.count} → ${count}, sum ${this.sum} → ${sum} at message ${n}`)
    this.count = count
    this.sum = sum
  }

  private note(fault: keyof Faults, text: string, count = 1): void {
    this.faults[fault] += count
    if (this.notes.length < notesMax) this.notes.push(`${fault}: ${text}`)
  }
}

export interface HandlingVerdict {
  handled: number
  redelivered: number
  /** Handled again without being marked redelivered. */
  unmarked: number
  /** Begun before the message before it, or in an earlier term than that. */
  disordered: number
  /** Begun while another handler of the session was in flight anywhere, without being marked redelivered. */
  overlapping: number
  notes: string[]
}

/** Judges the nodes' books: which messages were handled where, how often and in which order. */
export function judgeHandlings(handlings: readonly Handling[]): HandlingVerdict {
  const verdict: HandlingVerdict = {
    handled: 0,
    redelivered: 0,
    unmarked: 0,
    disordered: 0,
    overlapping: 0,
    notes: [],
  }
  for (const lines of Map.groupBy(handlings, ({ session }) => session).values()) {
    judgeSession(
      lines.toSorted((a, b) => a.at - b.at),
      verdict,
    )
  }
  return verdict
}

function judgeSession(lines: readonly Handling[], verdict: HandlingVerdict): void {
  const note = (fault: 'unmarked' | 'disordered' | 'overlapping', line: Handling, text: string) => {
    verdict[fault]++
    if (verdict.notes.length < notesMax)
      verdict.notes.push(`${fault}: ${line.session} term ${line.term} at ${line.node}: ${text}`)
  }
  let highest = 0
  let before: Handling | null = null
  let inFlight: Handling | null = null
  for (const line of lines) {
    if (line.event === 'done') {
      if (inFlight?.n === line.n && inFlight.node === line.node) inFlight = null
      continue
    }
    verdict.handled++
    if (line.redelivered) verdict.redelivered++
    else if (inFlight !== null) note('overlapping', line, `message ${line.n} during ${inFlight.n}`)
    if (line.n <= highest && !line.redelivered) note('unmarked', line, `message ${line.n} again`)
    else if (line.n > (before?.n ?? 0) + 1) note('disordered', line, `message ${line.n} after ${before?.n}`)
    if (line.term < (before?.term ?? 0)) note('disordered', line, `after term ${before?.term}`)
    inFlight = line
    before = line
    highest = Math.max(highest, line.n)
  }
}
