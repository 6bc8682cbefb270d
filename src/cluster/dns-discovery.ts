import { Resolver } from 'node:dns/promises'
import { EvenkeelError } from '../protocol/errors.ts'
import { addressesMax } from './name-lookup.ts'
import { Repeated } from './repeated.ts'

/** A name that stands for many servers. */
export interface DnsQuery {
  /** Fully qualified: search domains and the hosts file do not count. */
  readonly name: string
  /** `A` asks for A and AAAA records. `SRV` brings ports and weights along; of several priorities the first one counts. Default `A`. */
  readonly type?: 'A' | 'SRV'
  /** For `A`; default 80, or 443 with `https`. */
  readonly port?: number
  /** Default `http`. */
  readonly scheme?: 'http' | 'https' | 'tcp'
  /** From one answer to the next question; default 5 s. */
  readonly intervalMs?: number
  /** `address` or `address:port` of name servers. Default: the system's. */
  readonly servers?: readonly string[]
}

export interface FoundServer {
  /** The name that was asked for, or the target of its SRV record. */
  readonly name: string
  readonly address: string
  readonly port: number
  readonly weight: number
}

export interface DnsDiscoveryOptions {
  query: DnsQuery
  /** Every answer, sorted and without doubles; never empty. */
  onAnswer(servers: readonly FoundServer[]): void
  /** Each kind of failure once while it lasts. The last answer goes on to hold. */
  onProblem(problem: EvenkeelError): void
}

const intervalMsDefault = 5_000
const attemptMs = 1_000
const attempts = 2
const targetsMax = 64

/** Asks a name server again and again which servers a name has. */
export class DnsDiscovery {
  private readonly options: DnsDiscoveryOptions
  private readonly resolver = new Resolver({ timeout: attemptMs, tries: attempts })
  private readonly asking: Repeated
  private problem = ''
  private closed = false
  failures = 0

  /** Throws CONFIG_INVALID for a bad name server. */
  constructor(options: DnsDiscoveryOptions) {
    this.options = options
    const { servers } = options.query
    try {
      if (servers !== undefined) this.resolver.setServers(servers)
    } catch {
      throw new EvenkeelError('CONFIG_INVALID', `dns.servers: expected addresses, got ${servers!.join(', ')}`)
    }
    this.asking = new Repeated(() => this.ask(), 0)
  }

  start(): void {
    this.asking.soon()
  }

  close(): void {
    this.closed = true
    this.asking.stop()
    this.resolver.cancel()
  }

  private async ask(): Promise<void> {
    const { query, onAnswer, onProblem } = this.options
    this.asking.within(query.intervalMs ?? intervalMsDefault)
    try {
      const found = query.type === 'SRV' ? await this.askForServices() : await this.askForAddresses()
      if (this.closed) return
      if (found.length === 0) throw failure('ENODATA')
      this.problem = ''
      onAnswer(found)
    } catch (error) {
      if (this.closed) return
      this.failures++
      const { code = String(error) } = error as NodeJS.ErrnoException
      if (this.problem === code) return
      this.problem = code
      const message = `${query.name} was not resolved (${code}); its last answer goes on to hold`
      onProblem(new EvenkeelError('NOT_READY', message))
    }
  }

  private async askForAddresses(): Promise<FoundServer[]> {
    const { name, port, scheme } = this.options.query
    const addresses = await this.addressesOf(name)
    return sorted(
      addresses.map((address) => ({
        name,
        address,
        port: port ?? (scheme === 'https' ? 443 : 80),
        weight: 1,
      })),
    )
  }

  private async askForServices(): Promise<FoundServer[]> {
    const records = await this.resolver.resolveSrv(this.options.query.name)
    const first = Math.min(...records.map(({ priority }) => priority))
    // A target of one dot says that there is no such service.
    const chosen = records.filter(({ priority, name, port }) => priority === first && name !== '' && port > 0)
    const targets = await Promise.all(
      chosen.slice(0, targetsMax).map(async ({ name, port, weight }) => {
        const addresses = await this.addressesOf(name)
        // Weight 0 is for targets that hardly count; ours are above 0.
        return addresses.map((address) => ({ name, address, port, weight: Math.max(1, weight) }))
      }),
    )
    return sorted(targets.flat())
  }

  /** Both families; one that has no address is no failure, one that does not answer is. */
  private async addressesOf(name: string): Promise<string[]> {
    const none = (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENODATA' || error.code === 'ENOTFOUND') return []
      throw error
    }
    const families = await Promise.all([
      this.resolver.resolve4(name).catch(none),
      this.resolver.resolve6(name).catch(none),
    ])
    return families.flat()
  }
}

/** In an order of its own, since servers answer in any, and each once. */
function sorted(found: readonly FoundServer[]): FoundServer[] {
  const byPlace = new Map(found.map((one) => [`${one.address} ${one.port}`, one]))
  return [...byPlace]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .slice(0, addressesMax)
    .map(([, one]) => one)
}

function failure(code: string): NodeJS.ErrnoException {
  return Object.assign(new Error(code), { code })
}
