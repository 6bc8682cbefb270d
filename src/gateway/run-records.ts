import { laneOf } from '../cluster/run-log.ts'
import { parseEntry, parseTerminal } from '../core/run/entry.ts'
import { isTerminal } from '../core/run/events.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import { parseRunOrder, RecordType, type RunOrder, readU32 } from '../protocol/link-records.ts'
import type { LinkedNode } from './linked-node.ts'
import { OwnedRun, StopReason } from './owned-run.ts'
import { gatewayNumbersMost, type Runs } from './runs.ts'

/** What the gateway does with a producer's records (PROTOCOL.md §1.13). Throws RECORD_INVALID. */
export function runRecord(
  runs: Runs,
  node: LinkedNode,
  type: number,
  number: number,
  epoch: number,
  body: Buffer,
): void {
  if (type === RecordType.attach) {
    if (number <= gatewayNumbersMost)
      throw new EvenkeelError('RECORD_INVALID', 'ATTACH needs a number of the node’s own')
    void attach(runs, node, number, epoch, parseRunOrder(body, 'ATTACH'))
    return
  }
  const owned = node.runs.get(number)
  // It crossed with the word that the attempt is over.
  if (owned === undefined || owned.epoch !== epoch) return
  if (type === RecordType.append) {
    const first = readU32(body, 0)
    const json = body.toString('utf8', 4)
    if (body.length - 4 > runs.limits.runEntryBytes)
      throw new EvenkeelError(
        'RECORD_INVALID',
        `APPEND has at most ${runs.limits.runEntryBytes} bytes of events`,
      )
    const { events } = parseEntry({ epoch, first, json })
    if (events.some(({ type }) => type !== 'delta'))
      throw new EvenkeelError('RECORD_INVALID', 'APPEND holds deltas only')
    owned.append(first, events, json)
  } else if (type === RecordType.end) {
    const event = parseTerminal(body.toString('utf8', 4))
    if (isTerminal(event)) owned.finish(readU32(body, 0), event)
  } else if (type === RecordType.decline) {
    const producer = owned.producer
    if (producer !== null) producer.refusing = true
    void owned.refused()
  }
}

/** The producer's former gateway is gone, and its attempt goes on here. */
async function attach(
  runs: Runs,
  node: LinkedNode,
  number: number,
  epoch: number,
  { run, name }: RunOrder,
): Promise<void> {
  const refuse = () => node.link.putU32(RecordType.stop, 0, number, epoch, StopReason.fenced)
  const producer = node.producers.get(name)
  const known = runs.owned.get(run)
  // What is known of an earlier attempt was not told yet that it is over.
  if (producer === undefined || (known !== undefined && known.epoch >= epoch)) {
    refuse()
    return
  }
  const lane = runs.lane(laneOf(node.pool, name))
  const attached = await runs.insist(
    () => runs.logs.attach(run, runs.id, epoch),
    () => node.producers.get(name) === producer,
  )
  if (attached === null || attached.lane !== lane.name || node.producers.get(name) !== producer) {
    refuse()
    return
  }
  runs.owned.get(run)?.drop(StopReason.fenced)
  const { job, onLoss } = attached
  const owned = new OwnedRun(runs, lane, run, job, onLoss, { ...attached, epoch, queuedMs: 0 })
  owned.attachTo(producer, number)
  owned.acknowledge()
  runs.logs.queues.beat(lane.name, [job]).catch(() => {})
  runs.live.get(run)?.look()
}
