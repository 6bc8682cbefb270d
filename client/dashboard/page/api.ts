import type { GatewayView, NodeView, Operation, Plan, SessionDetails, SessionsPage, Stats } from './views.ts'

/** What the admin API refused, in its own words. */
export class ApiError extends Error {
  readonly status: number
  constructor(status: number, message: string) {
    super(message)
    this.status = status
  }
}

const tokenKey = 'evenkeel-admin-token'

/** The admin API of the gateway that this page came from. The token stays in this tab. */
export class Api {
  private token = sessionStorage.getItem(tokenKey)
  /** Called when the token is missing or wrong. */
  unauthorized: () => void = () => {}

  signIn(token: string): void {
    this.token = token
    sessionStorage.setItem(tokenKey, token)
  }

  signOut(): void {
    this.token = null
    sessionStorage.removeItem(tokenKey)
  }

  get signedIn(): boolean {
    return this.token !== null
  }

  nodes = () => this.get<NodeView[]>('nodes')
  gateways = () => this.get<GatewayView[]>('gateways')
  operations = () => this.get<Operation[]>('operations')
  operation = (id: string) => this.get<Operation>(`operations/${encodeURIComponent(id)}`)
  stats = (gateway: string, since: number) =>
    this.get<Stats[]>(`gateways/${encodeURIComponent(gateway)}/stats?since=${since}`)
  session = (id: string) => this.get<SessionDetails>(`sessions/${encodeURIComponent(id)}`)
  sessions = (query: Record<string, string>) =>
    this.get<SessionsPage>(`sessions?${new URLSearchParams(query)}`)

  drain = (node: string, options: { deadlineMs?: number; ratePerSecond?: number }) =>
    this.send<Operation>('POST', `nodes/${encodeURIComponent(node)}/drain`, options)
  activate = (node: string) => this.send<NodeView>('POST', `nodes/${encodeURIComponent(node)}/activate`)
  setWeight = (node: string, weight: number) =>
    this.send<NodeView>('PATCH', `nodes/${encodeURIComponent(node)}`, { weight })
  migrate = (session: string, to: string) =>
    this.send<Operation>('POST', `sessions/${encodeURIComponent(session)}/migrate`, { to })
  closeSession = (session: string) => this.send<void>('DELETE', `sessions/${encodeURIComponent(session)}`)
  drainGateway = (gateway: string) =>
    this.send<Operation>('POST', `gateways/${encodeURIComponent(gateway)}/drain`)

  async rebalance(dryRun: boolean, pool?: string): Promise<Plan[]> {
    const answer = await this.send<Plan | { plans: Plan[] }>('POST', 'rebalance', {
      dryRun,
      ...(pool === undefined ? {} : { pool }),
    })
    return 'plans' in answer ? answer.plans : [answer]
  }

  /** Events of the gateway until the signal aborts or the stream breaks off. */
  async events(
    onEvent: (event: { type: string; at: number } & Record<string, unknown>) => void,
    signal: AbortSignal,
  ) {
    const response = await this.fetch('events', { signal })
    let rest = ''
    const decoder = new TextDecoder()
    const reader = response.body!.getReader()
    for (;;) {
      const { done, value } = await reader.read()
      if (done) return
      const lines = (rest + decoder.decode(value, { stream: true })).split('\n')
      rest = lines.pop()!
      for (const line of lines) if (line.startsWith('data: ')) onEvent(JSON.parse(line.slice(6)))
    }
  }

  private async get<T>(path: string): Promise<T> {
    return (await (await this.fetch(path)).json()) as T
  }

  private async send<T>(method: string, path: string, body: unknown = {}): Promise<T> {
    const response = await this.fetch(path, {
      method,
      ...(method === 'DELETE'
        ? {}
        : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
    })
    return (response.status === 204 ? undefined : await response.json()) as T
  }

  /** Throws ApiError. */
  private async fetch(path: string, init: RequestInit = {}): Promise<Response> {
    const headers = new Headers(init.headers)
    if (this.token !== null) headers.set('authorization', `Bearer ${this.token}`)
    const response = await fetch(`/api/v1/${path}`, { ...init, headers })
    if (response.ok) return response
    const problem = await response.json().catch(() => ({}))
    if (response.status === 401) this.unauthorized()
    throw new ApiError(response.status, problem.detail ?? response.statusText)
  }
}
