import { EvenkeelError } from '../protocol/errors.ts'
import { isMigratePolicy, isWeight } from '../protocol/link-records.ts'
import type { NodeOptions } from './types.ts'

/** Throws BAD_REQUEST naming the option and its allowed values. */
export function checkOptions(options: NodeOptions): void {
  const name = /^[A-Za-z0-9._:-]{1,64}$/
  const fail = (message: string): never => {
    throw new EvenkeelError('BAD_REQUEST', `createNode: ${message}`)
  }
  if (!name.test(options.id ?? '')) fail('id must be 1 to 64 of A-Z a-z 0-9 . _ : -')
  if (options.pool !== undefined && !name.test(options.pool))
    fail('pool must be 1 to 64 of A-Z a-z 0-9 . _ : -')
  if (options.weight !== undefined && !isWeight(options.weight))
    fail('weight must be above 0, at most 1000000')
  if (
    options.maxSessions !== undefined &&
    !(Number.isSafeInteger(options.maxSessions) && options.maxSessions > 0)
  ) {
    fail('maxSessions must be a whole number from 1')
  }
  const { version = '' } = options
  if (typeof version !== 'string' || version.length > 64)
    fail('version must be a string of at most 64 characters')
  if (options.delivery !== undefined && options.delivery !== 'stream' && options.delivery !== 'atomic') {
    fail("delivery must be 'stream' or 'atomic'")
  }
  if (options.migrate !== undefined && !isMigratePolicy(options.migrate))
    fail("migrate must be 'always' or 'drain'")
  if (options.load !== undefined && typeof options.load !== 'function')
    fail('load must be a function that returns a number')
  if (options.ca !== undefined && typeof options.ca !== 'string' && !(options.ca instanceof Uint8Array))
    fail('ca must be PEM, as text or bytes')
  const { gateways = [], redis } = options
  if (redis === undefined && (!Array.isArray(gateways) || gateways.length === 0)) {
    fail(
      "gateways must name at least one gateway, such as 'ws://127.0.0.1:8081', or redis the cluster's Redis",
    )
  }
  for (const url of gateways) {
    if (!URL.canParse(url) || !/^wss?:$/.test(new URL(url).protocol))
      fail(`gateways: ${url} is not a ws: or wss: URL`)
  }
}
