import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { expect } from 'vitest'
import { expandNpm } from '../support/docs-scene.ts'

const root = path.resolve(import.meta.dirname, '../..')
const read = (file: string) => readFileSync(path.join(root, file), 'utf8')

/** Names of services in docker-compose.yml. */
const service = (name: string) => expect(read('docker-compose.yml')).toMatch(new RegExp(`^  ${name}:`, 'm'))
const testRuns = (file: string, ...words: string[]) => {
  for (const word of words) expect(read(file)).toContain(word)
}
const manifest = (...words: string[]) => {
  const text = readdirSync(path.join(root, 'deploy/kubernetes')).map((file) =>
    read(`deploy/kubernetes/${file}`),
  )
  for (const word of words) expect(text.join('\n')).toContain(word)
}
const hasKubectl = spawnSync('kubectl', ['version', '--client']).status === 0

/** What cannot run here, why, and what is looked at instead. */
export const elsewhere: { command: string; why: string; check(): unknown }[] = [
  ...[
    'npm install @opentelemetry/api @opentelemetry/sdk-node @opentelemetry/exporter-trace-otlp-proto',
    'export OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318',
    'export OTEL_TRACES_SAMPLER=parentbased_traceidratio OTEL_TRACES_SAMPLER_ARG=0.05',
    "EVENKEEL_TRACING_ENABLED=true NODE_OPTIONS='--import ./tracing.mjs' npx evenkeel gateway",
  ].map((command) => ({
    command,
    why: 'the SDK and its exporters are no packages of this project; the gateway is tested with an SDK in memory',
    check: () => testRuns('test/support/spans.ts', '@opentelemetry/sdk-trace'),
  })),
  {
    command: 'npm ci && npm start',
    why: '`npm ci` would remove the packages that this test runs with; the demo is started by a test of its own',
    async check() {
      expect(existsSync(path.join(root, 'package-lock.json'))).toBe(true)
      expect(await expandNpm('npm start')).toMatch(/src\/cli\/main\.ts demo$/)
      testRuns('test/integration/demo.test.ts', "script: 'src/cli/main.ts'", "'demo'")
    },
  },
  {
    command: 'npm ci && npm test',
    why: 'this test is a part of it',
    async check() {
      expect(await expandNpm('npm test')).toContain('vitest run')
    },
  },
  {
    command: 'npm start -- --redis',
    why: 'started by a test of its own',
    check: () => testRuns('test/integration/demo-redis.test.ts', "'demo', '--redis'"),
  },
  {
    command: 'npm run build:dashboard',
    why: 'it is built before all tests',
    async check() {
      expect(await expandNpm('npm run build:dashboard')).toBe('vite build')
      testRuns('vitest.config.ts', 'test/support/build-dashboard.ts')
    },
  },
  {
    command: 'npm install evenkeel',
    why: 'it loads from a registry; the package is packed and installed by a test of its own',
    check() {
      expect(JSON.parse(read('package.json')).name).toBe('evenkeel')
      testRuns('test/integration/package.test.ts', "'pack'", "'install'")
    },
  },
  {
    command: 'cp .env.example .env',
    why: 'for Docker Compose',
    check: () => testRuns('.env.example', 'EVENKEEL_NODE_TOKEN=', 'EVENKEEL_ADMIN_TOKEN=', 'REDIS_PASSWORD='),
  },
  {
    command: 'docker compose up --build --wait',
    why: 'it wants Docker; test/unit/compose.test.ts reads the file, test/integration/image.test.ts the image',
    check() {
      testRuns('test/unit/compose.test.ts', 'docker-compose.yml')
      testRuns('test/integration/image.test.ts', 'Dockerfile')
    },
  },
  {
    command: 'docker compose exec gateway-1 node dist/src/cli/main.js nodes',
    why: 'it wants Docker; `nodes` is run above',
    check() {
      service('gateway-1')
      expect(JSON.parse(read('package.json')).bin.evenkeel).toBe('./dist/src/cli/main.js')
    },
  },
  { command: 'docker compose stop node-3', why: 'it wants Docker', check: () => service('node-3') },
  {
    command: 'kubectl create namespace evenkeel',
    why: 'it wants a cluster',
    check: () => manifest('namespace: evenkeel'),
  },
  {
    command:
      'kubectl -n evenkeel create secret generic evenkeel --from-literal=redis=redis://evenkeel:PASSWORD@redis:6379 --from-literal=node-token="$(openssl rand -hex 32)" --from-literal=admin-token="$(openssl rand -hex 32)"',
    why: 'it wants a cluster',
    check: () =>
      manifest(...['redis', 'node-token', 'admin-token'].map((key) => `name: evenkeel, key: ${key}`)),
  },
  {
    command: 'kubectl apply -k deploy/kubernetes',
    why: 'it wants a cluster; where there is kubectl it renders what would be applied, and test/unit/deploy.test.ts checks it by the schemas of Kubernetes',
    check() {
      testRuns('test/unit/deploy.test.ts', 'fits the schema of Kubernetes')
      if (!hasKubectl) return
      const rendered = execFileSync('kubectl', ['kustomize', 'deploy/kubernetes'], {
        cwd: root,
        encoding: 'utf8',
      })
      expect(rendered).toContain('kind: PodDisruptionBudget')
    },
  },
  {
    command: 'kubectl -n evenkeel port-forward service/evenkeel-internal 8081',
    why: 'it wants a cluster',
    check: () => manifest('name: evenkeel-internal', 'port: 8081'),
  },
  ...(
    [
      ['deploy/transparent.sh up 9000', "'deploy/transparent.sh', 'up', '9000'"],
      ['SERVER=10.91.2.2:9000 haproxy -f deploy/transparent.cfg', "'deploy/transparent.cfg'"],
      ['ip address add 10.93.0.1/32 dev lo', "const vip = '10.93.0.1'"],
      [
        'sysctl -w net.ipv4.ip_forward=1 net.ipv4.fib_multipath_hash_policy=1 net.ipv4.conf.all.send_redirects=0',
        'net.ipv4.fib_multipath_hash_policy=1',
      ],
      ['ip route add 10.93.0.1 nexthop via 10.92.0.11 nexthop via 10.92.0.12', "'nexthop'"],
    ] as const
  ).map(([command, words]) => ({
    command,
    why: 'it changes the network of this machine; run in network namespaces by test/integration/layer-4-kernel.test.ts',
    check: () => testRuns('test/integration/layer-4-kernel.test.ts', words),
  })),
]
