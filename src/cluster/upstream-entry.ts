import { isUpstreamId, parseUpstreamUrl, upstreamIdRule, upstreamUrlRule } from '../core/net/upstream-url.ts'
import { EvenkeelError } from '../protocol/errors.ts'
import { type DrainOrder, isWeight } from '../protocol/link-records.ts'
import { type StoredUpstream, type UpstreamSettings, upstreamBytesMax } from './upstreams.ts'

/** Upstreams come from a store that others can write to: whoever reads one checks it here. Pure. */

type Parsed<T> = { value: T; complaint: null } | { value: null; complaint: string }

const poolPattern = /^[A-Za-z0-9._:-]{1,64}$/
const fieldPattern = /^(weight|drain)\/(.*)$/s

/** The form in which it is stored. Throws BAD_REQUEST naming the field. */
export function serializeUpstream({ id, pool, url, weight }: StoredUpstream): string {
  const json = JSON.stringify({ pool, url, weight })
  const { complaint } = parseStoredUpstream(id, json)
  if (complaint !== null) throw new EvenkeelError('BAD_REQUEST', complaint)
  return json
}

/** Checks what was stored under an id; never throws. Fields that this version does not know are left out. */
export function parseStoredUpstream(id: string, json: string): Parsed<StoredUpstream> {
  if (!isUpstreamId(id)) return refused(`id must be ${upstreamIdRule}`)
  const value = parseObject(json)
  if (value === null) return refused(`must be a JSON object of at most ${upstreamBytesMax} bytes`)
  const { pool, url, weight = 1 } = value
  if (typeof pool !== 'string' || !poolPattern.test(pool))
    return refused('pool must be 1 to 64 of A-Z a-z 0-9 . _ : -')
  if (typeof url !== 'string' || parseUpstreamUrl(url) === null)
    return refused(`url must be ${upstreamUrlRule}`)
  if (!isWeight(weight)) return refused('weight must be a number above 0, at most 1000000')
  return { value: { id, pool, url, weight }, complaint: null }
}

/** The field under which a setting is kept. Fields of one upstream are apart, so that two operators need not agree. */
export function settingField(kind: keyof UpstreamSettings, id: string): string {
  return `${kind}/${id}`
}

/** `at`, Unix milliseconds, is what goes first when there are too many. */
export function serializeSetting(
  kind: keyof UpstreamSettings,
  value: number | DrainOrder,
  at: number,
): string {
  return JSON.stringify({ [kind]: value, at })
}

export function parseSetting(field: string, json: string): Parsed<{ id: string; setting: UpstreamSettings }> {
  const [, kind, id] = fieldPattern.exec(field) ?? []
  if (!isUpstreamId(id)) return refused('must be stored under weight/ID or drain/ID')
  const value = parseObject(json)
  if (value === null) return refused(`must be a JSON object of at most ${upstreamBytesMax} bytes`)
  if (kind === 'weight') {
    const { weight } = value
    if (!isWeight(weight)) return refused('weight must be a number above 0, at most 1000000')
    return { value: { id, setting: { weight } }, complaint: null }
  }
  const drain = parseDrain(value.drain)
  if (drain === null)
    return refused('drain must be an object of deadlineMs and ratePerSecond, each a number or null')
  return { value: { id, setting: { drain } }, complaint: null }
}

function parseDrain(value: unknown): DrainOrder | null {
  if (typeof value !== 'object' || value === null) return null
  const { deadlineMs = null, ratePerSecond = null } = value as Record<string, unknown>
  if (!isCountOrNull(deadlineMs) || !isCountOrNull(ratePerSecond)) return null
  return { deadlineMs, ratePerSecond }
}

function isCountOrNull(value: unknown): value is number | null {
  return value === null || (Number.isSafeInteger(value) && (value as number) >= 0)
}

function parseObject(json: string): Record<string, unknown> | null {
  // A script at Redis gives what is larger as an empty text.
  if (json === '' || Buffer.byteLength(json) > upstreamBytesMax) return null
  try {
    const value: unknown = JSON.parse(json)
    const isObject = typeof value === 'object' && value !== null && !Array.isArray(value)
    return isObject ? (value as Record<string, unknown>) : null
  } catch {
    return null
  }
}

function refused(complaint: string): { value: null; complaint: string } {
  return { value: null, complaint }
}
