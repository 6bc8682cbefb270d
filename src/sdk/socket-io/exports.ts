import { setTimeout as delay, setImmediate as turn } from 'node:timers/promises'
import { EvenkeelError } from '../../protocol/errors.ts'
import type { AdapterRooms } from './adapter-rooms.ts'
import type { CheckedOptions } from './options.ts'
import { takeSnapshot } from './snapshot.ts'
import type { VirtualConnection } from './virtual-connection.ts'

/** A CONNECT that is being answered is waited for this long before a move. */
const connectingMs = 2_000

type ExportState = CheckedOptions['exportState']

/** Makes the session ready to leave, its state saved. Throws VETO when it cannot. */
export async function exportSession(
  connection: VirtualConnection,
  { quiesceMs, canMove, exportState }: CheckedOptions,
  rooms: AdapterRooms | null,
): Promise<void> {
  const startedAt = performance.now()
  const waitedLess = (ms: number) => performance.now() - startedAt < ms
  while (connection.connecting.size > 0 && waitedLess(connectingMs)) await delay(1)
  if (connection.connecting.size > 0) throw veto('a namespace is being connected')
  while (connection.openAcks > 0 && waitedLess(quiesceMs)) await delay(1)
  await rooms?.readyToLeave(connection)
  // Socket.IO dispatches events in the next tick, twice.
  await turn()
  await turn()
  for (const socket of connection.sockets.values())
    if (canMove?.(socket as never) === false) throw veto('canMove says no')
  if (connection.phase !== 'open') return
  try {
    connection.session.state = takeSnapshot(connection, exportState, (socket) => rooms?.heardBy(socket))
  } catch (error) {
    throw veto(`the session has no state that could travel: ${String((error as Error).message)}`)
  }
  rooms?.leave(connection)
  connection.phase = 'handed'
}

/** Saves the state for the case that this process dies; several wishes are one, and what is urgent does not wait for what is not. */
export function saveSoon(connection: VirtualConnection, ms: number, exportState: ExportState): void {
  const { saving } = connection
  if (connection.phase !== 'open' || (saving !== null && saving.ms <= ms)) return
  if (saving !== null) clearTimeout(saving.timer)
  const timer = setTimeout(() => {
    connection.saving = null
    save(connection, exportState)
  }, ms)
  timer.unref()
  connection.saving = { timer, ms }
}

function save(connection: VirtualConnection, exportState: ExportState): void {
  const { session, phase, imports } = connection
  if (phase !== 'open' || imports.size > 0 || !session.open) return
  try {
    const state = takeSnapshot(connection, exportState)
    if (JSON.stringify(state) !== JSON.stringify(session.state)) session.state = state
  } catch {
    // It stays as it was saved last; a move says why it cannot leave.
  }
}

function veto(why: string): EvenkeelError {
  return new EvenkeelError('VETO', why)
}
