import { InvalidArgumentError } from 'commander'
import { timerMsMax } from './choices.ts'

/** A commander parser for whole numbers; what is wrong with the argument becomes a usage error. */
export function integerFrom(lowest: number, highest: number): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (/^\d+$/.test(text) && value >= lowest && value <= highest) return value
    throw new InvalidArgumentError(`Expected an integer from ${lowest} to ${highest}.`)
  }
}

export const parsePort = integerFrom(0, 65_535)
export const parseMilliseconds = integerFrom(0, timerMsMax)

export function parseWeight(text: string): number {
  const value = Number(text)
  if (/^\d+(\.\d+)?$/.test(text) && value > 0 && value <= 1e6) return value
  throw new InvalidArgumentError('Expected a number above 0 and at most 1000000.')
}

/** `1,1,2` */
export function parseWeights(text: string): number[] {
  return text.split(',').map((part) => parseWeight(part.trim()))
}

/** Only http(s) addresses without credentials: those belong into EVENKEEL_ADMIN_TOKEN. */
export function parseAdminUrl(text: string): URL {
  const url = URL.parse(text)
  if (url === null || !/^https?:$/.test(url.protocol)) {
    throw new InvalidArgumentError('Expected an address such as http://127.0.0.1:8081.')
  }
  if (url.username !== '' || url.password !== '') {
    throw new InvalidArgumentError('Credentials do not belong into the address; set EVENKEEL_ADMIN_TOKEN.')
  }
  if (!url.pathname.endsWith('/')) url.pathname += '/'
  url.search = ''
  url.hash = ''
  return url
}
