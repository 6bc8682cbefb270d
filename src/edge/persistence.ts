import { createHmac, hkdfSync } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { Wish } from '../core/balance/persistence.ts'
import { cookieValues } from '../core/net/cookies.ts'
import { isSameSecret } from '../link/token.ts'
import { clientAddress, clientProto } from './client-view.ts'

export interface PersistenceOptions {
  by: 'cookie' | 'header' | 'ip'
  /** Of the cookie or the header. */
  name: string
  ttlMs: number
  /** The same at all gateways. */
  secret: string | Buffer
  pool: string
  /** Unix time in milliseconds. Default: `Date.now`. */
  now?: () => number
}

const macBytes = 16
const valuePattern = /^([0-9a-z]{1,11})\.([\w-]{22})\.([\w.:-]{1,64})$/

/** Tells returning clients. Nothing is stored: what the client shows names its node, and is signed. */
export class Persistence {
  private readonly options: PersistenceOptions
  private readonly key: Buffer
  private readonly now: () => number

  constructor(options: PersistenceOptions) {
    this.options = options
    // A key of its own: what clients see must say nothing of the secret's other uses.
    this.key = Buffer.from(hkdfSync('sha256', options.secret, '', 'evenkeel session persistence 1', 32))
    this.now = options.now ?? Date.now
  }

  /** Where the client wants to be, or null when it says nothing that is ours, or no longer valid. */
  wish(request: IncomingMessage): Wish | null {
    const { by, name } = this.options
    if (by === 'ip') return { key: clientAddress(request) }
    const shown =
      by === 'header'
        ? [String(request.headers[name.toLowerCase()] ?? '')]
        : cookieValues(request.headers.cookie ?? '', name)
    for (const value of shown) {
      const node = this.nodeOf(value)
      if (node !== null) return { node }
    }
    return null
  }

  /** What the answer to the client says, so that it can come back. */
  headers(request: IncomingMessage, node: string): [name: string, value: string][] {
    const { by, name, ttlMs } = this.options
    if (by === 'ip') return []
    const expiry = Math.floor((this.now() + ttlMs) / 1000).toString(36)
    const value = `${expiry}.${this.mac(expiry, node)}.${node}`
    if (by === 'header') return [[name, value]]
    return [['set-cookie', cookieHeader(request, name, value, Math.floor(ttlMs / 1000))]]
  }

  private nodeOf(value: string): string | null {
    const [, expiry, mac, node] = valuePattern.exec(value) ?? []
    if (expiry === undefined || mac === undefined || node === undefined) return null
    if (!isSameSecret(mac, this.mac(expiry, node))) return null
    return Number.parseInt(expiry, 36) * 1000 > this.now() ? node : null
  }

  private mac(expiry: string, node: string): string {
    const digest = createHmac('sha256', this.key).update(`${this.options.pool}\n${expiry}\n${node}`).digest()
    return digest.subarray(0, macBytes).toString('base64url')
  }
}

/** What sets a cookie that no script has to read. */
export function cookieHeader(
  request: IncomingMessage,
  name: string,
  value: string,
  maxAgeSeconds: number,
): string {
  const secure = isSecure(request) ? '; Secure' : ''
  return `${name}=${value}; Path=/; Max-Age=${maxAgeSeconds}; HttpOnly; SameSite=Lax${secure}`
}

/** A proxy in front may have ended TLS. A client that forges this harms only its own cookie. */
function isSecure(request: IncomingMessage): boolean {
  return clientProto(request) === 'https' || request.headers['x-forwarded-proto'] === 'https'
}
