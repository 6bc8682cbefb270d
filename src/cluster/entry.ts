import { BlockList, isIP } from 'node:net'
import { EvenkeelError } from '../protocol/errors.ts'

/** Entries come from a store that others can write to: whoever reads one checks it here. Pure. */

export const entryBytesMax = 8 * 1024

export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json }

interface EntryBase {
  /** 1 to 64 of `A–Z a–z 0–9 . _ : -`; one live entry per kind and id. */
  readonly id: string
  /** 8 to 64 of the same, random for each process. */
  readonly instance: string
  /** Whatever else the others should know. */
  readonly data?: { readonly [key: string]: Json }
}

export interface GatewayEntry extends EntryBase {
  readonly kind: 'gateway'
  /** Base URL of the internal listener as nodes and gateways reach it; `http:`, `https:`, `ws:` or `wss:`. */
  readonly internalUrl: string
  /** Base URL of the public listener. */
  readonly publicUrl?: string
  /** Unix time in milliseconds. */
  readonly startedAt: number
  readonly state: 'active' | 'draining'
}

export interface NodeEntry extends EntryBase {
  readonly kind: 'node'
  readonly pool: string
}

export type Entry = GatewayEntry | NodeEntry

/** Unique over all kinds. */
export function entryKey(entry: { readonly kind: string; readonly id: string }): string {
  return `${entry.kind}/${entry.id}`
}

/** The form in which an entry is stored. Throws BAD_REQUEST naming the field, TOO_LARGE above 8 KiB. */
export function serializeEntry(entry: Entry): string {
  const json = JSON.stringify(entry)
  const bytes = Buffer.byteLength(json)
  if (bytes > entryBytesMax)
    throw new EvenkeelError('TOO_LARGE', `entry ${entry.id} has ${bytes} bytes, allowed are ${entryBytesMax}`)
  const { complaint } = parseEntry(entryKey(entry), json)
  if (complaint !== null) throw new EvenkeelError('BAD_REQUEST', complaint)
  return json
}

/** Checks what was stored under `key`; never throws. Fields that this version does not know are left out. */
export function parseEntry(
  key: string,
  json: string,
): { entry: Entry; complaint: null } | { entry: null; complaint: string } {
  const found = readEntry(json)
  if (typeof found === 'string') return { entry: null, complaint: found }
  if (entryKey(found) !== key)
    return { entry: null, complaint: 'kind and id must be those it is stored under' }
  return { entry: found, complaint: null }
}

function readEntry(json: string): Entry | string {
  if (Buffer.byteLength(json) > entryBytesMax) return `must have at most ${entryBytesMax} bytes`
  const value = parseObject(json)
  if (value === null) return 'must be a JSON object'
  const { kind, id, instance, data } = value
  if (!isName(id, 1)) return 'id must be 1 to 64 of A-Z a-z 0-9 . _ : -'
  if (!isName(instance, 8)) return 'instance must be 8 to 64 of A-Z a-z 0-9 . _ : -'
  if (data !== undefined && !isObject(data)) return 'data must be an object'
  const base = { id, instance, ...(data === undefined ? {} : { data: data as { [key: string]: Json } }) }
  if (kind === 'gateway') return readGateway(base, value)
  if (kind !== 'node') return 'kind must be gateway or node'
  if (!isName(value.pool, 1)) return 'pool must be 1 to 64 of A-Z a-z 0-9 . _ : -'
  return { kind, ...base, pool: value.pool }
}

function readGateway(base: EntryBase, value: Record<string, unknown>): Entry | string {
  const { internalUrl, publicUrl, startedAt, state } = value
  const urlRule = 'must be an http:, https:, ws: or wss: URL without user, not link-local'
  if (!isServerUrl(internalUrl)) return `internalUrl ${urlRule}`
  if (publicUrl !== undefined && !isServerUrl(publicUrl)) return `publicUrl ${urlRule}`
  if (!Number.isSafeInteger(startedAt) || (startedAt as number) < 0)
    return 'startedAt must be a time in milliseconds'
  if (state !== 'active' && state !== 'draining') return 'state must be active or draining'
  return {
    kind: 'gateway',
    ...base,
    internalUrl,
    ...(publicUrl === undefined ? {} : { publicUrl }),
    startedAt: startedAt as number,
    state,
  }
}

const namePattern = /^[A-Za-z0-9._:-]{1,64}$/

function isName(value: unknown, lengthMin: number): value is string {
  return typeof value === 'string' && value.length >= lengthMin && namePattern.test(value)
}

// Nodes dial these URLs and present their token there: an entry that someone forged must not
// send them to a cloud's metadata service.
const refusedAddresses = new BlockList()
refusedAddresses.addSubnet('169.254.0.0', 16, 'ipv4')
refusedAddresses.addSubnet('fe80::', 10, 'ipv6')
refusedAddresses.addAddress('fd00:ec2::254', 'ipv6')
refusedAddresses.addAddress('0.0.0.0', 'ipv4')
refusedAddresses.addAddress('::', 'ipv6')

function isServerUrl(value: unknown): value is string {
  if (typeof value !== 'string' || value.length > 2048) return false
  const url = URL.parse(value)
  if (url === null || !/^(https?|wss?):$/.test(url.protocol)) return false
  if (url.username !== '' || url.password !== '' || url.hostname === '') return false
  const host = url.hostname.replace(/^\[|\]$/g, '')
  const family = isIP(host)
  return family === 0 || !refusedAddresses.check(host, family === 6 ? 'ipv6' : 'ipv4')
}

function parseObject(json: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(json)
    return isObject(value) ? value : null
  } catch {
    return null
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
