import type {
  DrainOptions,
  GatewayView,
  NodeView,
  Operation,
  RebalanceOptions,
  RebalanceResult,
  SessionView,
} from '../../src/gateway/operator.ts'

/** The gateway answered with an error. */
export class AdminError extends Error {
  readonly status: number

  constructor(status: number, text: string) {
    super(`${status} ${text}`)
    this.status = status
  }
}

/** The admin API as operators use it. */
export class AdminClient {
  private readonly url: string
  private readonly base: string
  private readonly headers: Record<string, string>

  constructor(url: string, token: string | undefined) {
    this.url = url
    this.base = `${url}/api/v1`
    this.headers = token === undefined ? {} : { authorization: `Bearer ${token}` }
  }

  nodes(): Promise<NodeView[]> {
    return this.call('GET', '/nodes')
  }

  node(id: string): Promise<NodeView> {
    return this.call('GET', `/nodes/${id}`)
  }

  setWeight(id: string, weight: number): Promise<NodeView> {
    return this.call('PATCH', `/nodes/${id}`, { weight })
  }

  drain(id: string, options: DrainOptions = {}): Promise<Operation> {
    return this.call('POST', `/nodes/${id}/drain`, options)
  }

  gateways(): Promise<GatewayView[]> {
    return this.call('GET', '/gateways')
  }

  drainGateway(id: string): Promise<Operation> {
    return this.call('POST', `/gateways/${id}/drain`, {})
  }

  activate(id: string): Promise<NodeView> {
    return this.call('POST', `/nodes/${id}/activate`, {})
  }

  rebalance(options: RebalanceOptions = {}): Promise<RebalanceResult> {
    return this.call('POST', '/rebalance', options)
  }

  operation(id: string): Promise<Operation> {
    return this.call('GET', `/operations/${id}`)
  }

  migrate(session: string, to: string): Promise<Operation> {
    return this.call('POST', `/sessions/${session}/migrate`, { to })
  }

  session(id: string): Promise<SessionView> {
    return this.call('GET', `/sessions/${id}`)
  }

  /** The value of a metric without labels. */
  async metric(name: string): Promise<number> {
    const line = (await this.metrics()).split('\n').find((one) => one.startsWith(`${name} `))
    if (line === undefined) throw new Error(`no metric ${name}`)
    return Number(line.slice(name.length))
  }

  async metrics(): Promise<string> {
    return await (await fetch(`${this.url}/metrics`, { headers: this.headers })).text()
  }

  async sessions(): Promise<SessionView[]> {
    const all: SessionView[] = []
    let cursor = ''
    for (;;) {
      type Page = { sessions: SessionView[]; next: string | null }
      const page = await this.call<Page>('GET', `/sessions?limit=1000${cursor}`)
      all.push(...page.sessions)
      if (page.next === null) return all
      cursor = `&cursor=${page.next}`
    }
  }

  /** Operator events, until the signal aborts. */
  async events(signal: AbortSignal): Promise<ReadableStream<Uint8Array>> {
    const response = await fetch(`${this.base}/events`, { headers: this.headers, signal })
    if (!response.ok) throw new AdminError(response.status, await response.text())
    return response.body!
  }

  async call<T>(method: string, path: string, body?: unknown): Promise<T> {
    const response = await fetch(this.base + path, {
      method,
      headers: { ...this.headers, 'content-type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
    const text = await response.text()
    if (!response.ok) throw new AdminError(response.status, text)
    return JSON.parse(text) as T
  }
}
