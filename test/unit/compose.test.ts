import { readFileSync } from 'node:fs'
import path from 'node:path'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { environmentVariables } from '../../src/cli/config.ts'
import { defaultLimits } from '../../src/protocol/limits.ts'
import { documentedGrants } from '../support/redis-grants.ts'

interface Service {
  image: string
  user?: string
  command?: string[]
  environment?: Record<string, string>
  healthcheck?: { test: string[] }
  ports?: string[]
  restart?: string
  stop_grace_period?: string
}

const root = path.resolve(import.meta.dirname, '../..')
const read = (file: string) => readFileSync(path.join(root, file), 'utf8')

const compose = parse(read('docker-compose.yml'), { merge: true }) as { services: Record<string, Service> }
const services = Object.entries(compose.services)
const named = (prefix: string) => services.filter(([name]) => name.startsWith(prefix))
const variables = [...read('docker-compose.yml').matchAll(/\$\{(\w+)([^}]*)\}/g)]

function seconds(text = ''): number {
  return Number(/^(\d+)s$/.exec(text)?.[1])
}

describe('docker-compose.yml', () => {
  test('runs a Redis, two gateways, three nodes and a balancer, and watches them where that is asked for', () => {
    expect(services.map(([name]) => name)).toEqual([
      'redis',
      'gateway-1',
      'gateway-2',
      'node-1',
      'node-2',
      'node-3',
      'haproxy',
      'prometheus',
      'grafana',
    ])
    expect(named('node-').map(([, { command }]) => command?.at(-1))).toEqual(['1', '1', '2'])
  })

  test.each(services)(
    '%s has a health check, is restarted, has time to end, and a pinned image',
    (_, service) => {
      expect(service.healthcheck?.test[0]).toMatch(/^CMD(-SHELL)?$/)
      expect(service.restart).toBe('unless-stopped')
      expect(seconds(service.stop_grace_period)).toBeGreaterThan(0)
      expect(service.image).toMatch(/^([a-z]+\/)?[a-z]+:v?\d+(\.\d+)*(-[a-z]+)?$/)
    },
  )

  test('has no secret in it: each comes from a variable that must be set', () => {
    const required = variables.filter(([, , rest]) => rest?.startsWith(':?')).map(([, name]) => name)
    expect(new Set(required)).toEqual(
      new Set(['EVENKEEL_NODE_TOKEN', 'EVENKEEL_ADMIN_TOKEN', 'REDIS_PASSWORD']),
    )
    for (const [, { environment = {} }] of services) {
      for (const [name, value] of Object.entries(environment)) {
        if (/TOKEN|AUTH$|PASSWORD/.test(name)) expect(value).toMatch(/^\$\{\w+:\?[^}]+\}$/)
        expect(value.replace(/\$\{[^}]*\}/g, '')).not.toMatch(/:\/\/[^@]*:[^@]+@/)
      }
    }
  })

  test('.env.example names every variable and gives none of the secrets', () => {
    const given = Object.fromEntries(
      read('.env.example')
        .split('\n')
        .filter((line) => /^\w+=/.test(line))
        .map((line) => line.split('=')),
    )
    expect(new Set(Object.keys(given))).toEqual(new Set(variables.map(([, name]) => name)))
    for (const [name, value] of Object.entries(given)) if (name !== 'PUBLIC_PORT') expect(value).toBe('')
    expect(read('.gitignore').split('\n')).toContain('.env')
  })

  test('its Redis grants what docs/redis.md says', () => {
    const ofClusters = ['+spublish', '+ssubscribe', '+sunsubscribe', '+cluster|slots']
    const { command = [] } = compose.services.redis!
    expect(command.slice(command.indexOf('resetkeys'))).toEqual(
      documentedGrants().filter((grant) => !ofClusters.includes(grant)),
    )
  })

  test('gateways and nodes get variables that exist', () => {
    const known = [
      ...environmentVariables().map(({ variable }) => variable),
      'EVENKEEL_NODE_TOKEN',
      'EVENKEEL_ADMIN_TOKEN',
    ]
    for (const [, { environment = {} }] of [...named('gateway-'), ...named('node-')])
      for (const name of Object.keys(environment)) expect(known).toContain(name)
    for (const [, { environment }] of named('node-'))
      expect(environment).not.toHaveProperty('EVENKEEL_ADMIN_TOKEN')
  })

  test('publishes the balancer to the world and the internal listeners to this machine alone', () => {
    const published = services.flatMap(([name, { ports = [] }]) => ports.map((port) => [name, port]))
    expect(published).toEqual([
      ['gateway-1', '127.0.0.1:8081:8081'],
      ['gateway-2', '127.0.0.1:8082:8081'],
      ['haproxy', `\${PUBLIC_PORT:-8080}:8080`],
      ['grafana', '127.0.0.1:3000:3000'],
    ])
  })

  test('waits for drains', () => {
    const drainDeadlineSeconds = 300
    const gatewayDrainSeconds = (defaultLimits.gatewayDrainMs + defaultLimits.answerDrainMs) / 1_000
    for (const [, { stop_grace_period }] of named('node-'))
      expect(seconds(stop_grace_period)).toBeGreaterThan(drainDeadlineSeconds)
    for (const [, { stop_grace_period }] of named('gateway-'))
      expect(seconds(stop_grace_period)).toBeGreaterThan(gatewayDrainSeconds)
  })

  test('the health check of the nodes looks for the port at which gateways take links', () => {
    const [, port] = /\/\/gateway-1:(\d+)$/.exec(
      compose.services['gateway-1']!.environment!.EVENKEEL_INTERNAL_URL!,
    )!
    const hex = Number(port).toString(16).toUpperCase()
    for (const [, { healthcheck }] of named('node-')) expect(healthcheck!.test[1]).toContain(`':${hex} 01 '`)
  })
})

test('haproxy.cfg balances over the gateways of docker-compose.yml by their readiness', () => {
  const lines = read('deploy/haproxy.cfg')
    .split('\n')
    .map((line) => line.trim())
  expect(lines).toContain('mode tcp')
  expect(lines).toContain('balance leastconn')
  expect(lines.find((line) => line.startsWith('http-check send'))).toContain(' uri /readyz ')
  const servers = lines.filter((line) => line.startsWith('server ')).map((line) => line.split(' ')[1])
  expect(servers).toEqual(named('gateway-').map(([name]) => name))
})

describe('Dockerfile', () => {
  const lines = read('Dockerfile').split('\n')
  const stages = lines.filter((line) => line.startsWith('FROM '))

  test('builds in one stage, runs in another, both of a pinned major version', () => {
    expect(stages.length).toBe(2)
    for (const stage of stages) expect(stage).toMatch(/^FROM node:\d+-(slim|alpine)( AS \w+)?$/)
  })

  test('does not run as root', () => {
    const last = lines.slice(lines.lastIndexOf(stages.at(-1)!))
    const user = last.findLast((line) => line.startsWith('USER '))?.split(' ')[1]
    expect(user).toBe('node')
    expect(compose.services.redis!.user).toBe('redis')
  })

  test('gets nothing but what the build needs', () => {
    const allowed = read('.dockerignore')
      .split('\n')
      .filter((line) => line !== '')
    expect(allowed[0]).toBe('*')
    const copied = lines
      .filter((line) => /^COPY (?!--from)/.test(line))
      .flatMap((line) => line.split(' ').slice(1, -1))
    expect(new Set(allowed.slice(1))).toEqual(new Set(copied.map((name) => `!${name}`)))
  })
})
