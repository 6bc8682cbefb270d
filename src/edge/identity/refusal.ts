import type { IncomingMessage } from 'node:http'
import { enginePath } from '../../protocol/engine-paths.ts'
import { EvenkeelError } from '../../protocol/errors.ts'
import { splitTarget } from '../request-meta.ts'
import { senderOf } from './sender.ts'

/**
 * Whether a WebSocket that is not let in is accepted and closed with a code in place of a status. Browsers show no status to scripts, and clients of
 * `evenkeel.v1` are written for them; everybody else gets what HTTP has for it.
 */
export function closesInstead(request: IncomingMessage, error: unknown): error is EvenkeelError {
  if (!(error instanceof EvenkeelError) || senderOf(request)?.turnedAway !== error) return false
  if (error.code !== 'UNAUTHORIZED' && error.code !== 'FORBIDDEN') return false
  const { headers, url = '' } = request
  if (enginePath(splitTarget(url)[0]) !== null) return false
  const offered = (headers['sec-websocket-protocol'] ?? '').split(',').map((name) => name.trim())
  return headers.origin !== undefined || offered.includes('evenkeel.v1')
}
