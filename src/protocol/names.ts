import { isLongerThan } from './utf8.ts'

export const channelNameBytes = 255

/** What `isChannelName` asks for, in words. */
export const channelNameRule = 'a channel name has 1 to 255 bytes, no control characters and no $ in front'

/** Text of 1 to 255 bytes without control characters, since names go into logs; `$` begins names of Evenkeel's own. */
export function isChannelName(name: string): boolean {
  return (
    name.length > 0 && !name.startsWith('$') && !isLongerThan(name, channelNameBytes) && !/\p{Cc}/u.test(name)
  )
}

/** As a gateway makes them: 16 random bytes. */
export function isSessionId(value: unknown): value is string {
  return typeof value === 'string' && /^[A-Za-z0-9_-]{1,64}$/.test(value)
}

/** 256 bits in base64url: a resume token, or a SHA-256. */
export function is256Bits(value: unknown): value is string {
  return typeof value === 'string' && /^[A-Za-z0-9_-]{43}$/.test(value)
}
