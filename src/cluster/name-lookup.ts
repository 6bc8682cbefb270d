import { lookup } from 'node:dns/promises'
import { EvenkeelError } from '../protocol/errors.ts'

const lookupMs = 5_000
/** No server has more addresses than are ever looked at. */
export const addressesMax = 256

/**
 * The addresses of a host as this machine resolves it (hosts file, search domains). Each address is to be
 * checked and dialled as it is: to resolve the name again could give another one. Rejects with NOT_READY.
 */
export async function lookupAddresses(host: string): Promise<string[]> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(unresolved(host, `no answer within ${lookupMs} ms`)), lookupMs)
  })
  try {
    const found = await Promise.race([lookup(host, { all: true }), late])
    return found.slice(0, addressesMax).map(({ address }) => address)
  } catch (error) {
    if (error instanceof EvenkeelError) throw error
    throw unresolved(host, (error as NodeJS.ErrnoException).code ?? String(error))
  } finally {
    clearTimeout(timer)
  }
}

function unresolved(host: string, why: string): EvenkeelError {
  return new EvenkeelError('NOT_READY', `${host} cannot be resolved (${why})`)
}
