import { createNode, type EvenkeelNode, type NodeOptions, type SessionHandlers } from 'evenkeel/sdk'
import { onTestFinished } from 'vitest'
import { loadConfig } from '../../src/cli/config.ts'
import type { GatewayConfig } from '../../src/cli/config-schema.ts'
import { createLogger } from '../../src/cli/logger.ts'
import { type Extra, type RunningGateway, startGateway } from '../../src/cli/start-gateway.ts'

export interface TestGateway extends RunningGateway {
  readonly wsUrl: string
  readonly httpUrl: string
  readonly internalUrl: string
  readonly linkUrl: string
}

type Overrides = { [Key in keyof GatewayConfig]?: Partial<GatewayConfig[Key]> | GatewayConfig[Key] }

/** A real gateway in this process, on free ports of 127.0.0.1; it ends with the test. */
export async function startTestGateway(
  overrides: Overrides = {},
  tokens = {},
  extra?: Extra,
): Promise<TestGateway> {
  const gateway = await launchTestGateway(overrides, tokens, extra)
  onTestFinished(() => gateway.close())
  return gateway
}

/** The same, ended by whoever starts it. */
export async function launchTestGateway(
  overrides: Overrides = {},
  tokens = {},
  extra?: Extra,
): Promise<TestGateway> {
  const { config } = await loadConfig({ env: {} })
  const merged: Record<string, unknown> = {
    ...config,
    public: { host: '127.0.0.1', port: 0 },
    internal: { host: '127.0.0.1', port: 0 },
  }
  for (const [key, value] of Object.entries(overrides)) {
    const isObject = typeof value === 'object' && value !== null && !Array.isArray(value)
    merged[key] = isObject ? { ...(merged[key] as object), ...value } : value
  }
  const gateway = await startGateway(
    merged as unknown as GatewayConfig,
    { nodeToken: null, adminToken: null, ...tokens },
    createLogger('silent'),
    extra,
  )
  return {
    ...gateway,
    wsUrl: `ws://127.0.0.1:${gateway.publicPort}/ws`,
    httpUrl: `http://127.0.0.1:${gateway.publicPort}`,
    internalUrl: `http://127.0.0.1:${gateway.internalPort}`,
    linkUrl: `ws://127.0.0.1:${gateway.internalPort}`,
  }
}

const quiet = { info() {}, warn() {}, error() {} }

/** A real node in this process; it ends with the test. */
export async function startTestNode(
  gateway: Pick<TestGateway, 'linkUrl'>,
  handlers: SessionHandlers,
  options: Partial<NodeOptions> = {},
): Promise<EvenkeelNode> {
  const node = createNode({
    id: 'a',
    gateways: [gateway.linkUrl],
    drainOnSigterm: false,
    logger: quiet,
    ...options,
  })
  node.serve(handlers)
  onTestFinished(() => node.stop())
  await node.start()
  return node
}

export const echo: SessionHandlers = {
  message(session, data) {
    session.send(data)
  },
}
