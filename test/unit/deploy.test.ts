import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { describe, expect, test } from 'vitest'
import { parse, parseAllDocuments } from 'yaml'
import { environmentVariables } from '../../src/cli/config.ts'
import { defaultLimits } from '../../src/protocol/limits.ts'

const root = path.resolve(import.meta.dirname, '../..')
const read = (file: string) => readFileSync(path.join(root, file), 'utf8')
const documented = new Set([...read('docs/metrics.md').matchAll(/`(evenkeel_\w+)/g)].map(([, name]) => name!))
const drainSeconds = defaultLimits.drainDeadlineMs / 1_000
const gatewaySeconds = (defaultLimits.gatewayDrainMs + defaultLimits.answerDrainMs) / 1_000

/** What a text says of metrics that do not exist. */
function unknownMetrics(text: string): string[] {
  const used = [...text.matchAll(/\bevenkeel_[a-z_]+/g)].map(([name]) =>
    name.replace(/_(bucket|sum|count)$/, ''),
  )
  return [...new Set(used)].filter(
    (name) => !documented.has(name) && !/^evenkeel_(process|nodejs)_/.test(name),
  )
}

describe('Prometheus', () => {
  const promtool = (...args: string[]) => execFileSync('promtool', args, { cwd: root, encoding: 'utf8' })

  test('promtool takes the configuration and the rules', () => {
    expect(promtool('check', 'config', '--syntax-only', 'deploy/prometheus/prometheus.yml')).toContain(
      'SUCCESS',
    )
    expect(promtool('check', 'rules', 'deploy/prometheus/alerts.yml')).toContain('SUCCESS')
  })

  test('each rule fires when it should, and not before', () => {
    expect(promtool('test', 'rules', 'deploy/prometheus/alerts.test.yml')).toContain('SUCCESS')
    const names = (text: string) => [...text.matchAll(/alert(?:name)?: (\w+)/g)].map(([, name]) => name)
    const tested = new Set(names(read('deploy/prometheus/alerts.test.yml')))
    expect(tested).toEqual(new Set(names(read('deploy/prometheus/alerts.yml'))))
  })

  test('each rule is explained, and looks at metrics that there are', () => {
    const rules = read('deploy/prometheus/alerts.yml')
    const explained = [...read('docs/metrics.md').matchAll(/^\| `(Evenkeel\w+)`/gm)].map(([, name]) => name)
    expect(explained).toEqual([...rules.matchAll(/alert: (\w+)/g)].map(([, name]) => name))
    expect(unknownMetrics(rules)).toEqual([])
  })
})

test('the Grafana dashboard looks at metrics that there are', () => {
  const text = read('deploy/grafana/evenkeel.json')
  const { panels } = JSON.parse(text) as { panels: { id: number; targets: { expr: string }[] }[] }
  expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length)
  expect(unknownMetrics(text)).toEqual([])
})

interface Manifest {
  apiVersion: string
  kind: string
  metadata: { name: string }
  // biome-ignore lint/suspicious/noExplicitAny: manifests of every kind
  spec?: any
}

describe('Kubernetes', () => {
  const folder = 'deploy/kubernetes'
  const { resources } = parse(read(`${folder}/kustomization.yaml`)) as { resources: string[] }
  const manifests = resources.flatMap((file) =>
    parseAllDocuments(read(`${folder}/${file}`)).map((document) => document.toJS() as Manifest),
  )
  const byKind = (kind: string) => manifests.filter((manifest) => manifest.kind === kind)

  test('all files are in the kustomization', () => {
    const files = readdirSync(path.join(root, folder)).filter((name) => name !== 'kustomization.yaml')
    expect(files.sort()).toEqual([...resources].sort())
  })

  test.each(
    manifests.map((manifest): [string, Manifest] => [`${manifest.kind} ${manifest.metadata.name}`, manifest]),
  )('%s fits the schema of Kubernetes', async (_name, manifest) => {
    const { apiVersion, kind } = manifest
    const models = (await import(/* @vite-ignore */ `kubernetes-models/${apiVersion}`)) as Record<
      string,
      new (
        data: Manifest,
      ) => { validate(): void }
    >
    const Model = models[kind]!
    expect(() => new Model({ ...manifest, metadata: 'x' } as never).validate(), 'the schema is one').toThrow()
    new Model(manifest).validate()
  })

  test('drains have their time', () => {
    const grace = Object.fromEntries(
      byKind('Deployment').map(({ metadata, spec }) => [
        metadata.name,
        spec.template.spec.terminationGracePeriodSeconds,
      ]),
    )
    const preStopSeconds = 5
    expect(grace['evenkeel-gateway']).toBeGreaterThan(gatewaySeconds + preStopSeconds)
    expect(grace['evenkeel-node']).toBeGreaterThan(drainSeconds)
  })

  test('selectors, ports and variables mean something', () => {
    const known = [
      ...environmentVariables().map(({ variable }) => variable),
      'EVENKEEL_NODE_TOKEN',
      'EVENKEEL_ADMIN_TOKEN',
      'POD_IP',
      'POD_NAME',
    ]
    const deployments = byKind('Deployment')
    for (const { spec } of deployments) {
      const [container] = spec.template.spec.containers
      for (const { name } of container.env) expect(known).toContain(name)
      expect(spec.template.metadata.labels).toEqual(spec.selector.matchLabels)
    }
    const apps = deployments.map(({ spec }) => spec.selector.matchLabels.app)
    for (const { spec } of byKind('Service')) expect(apps).toContain(spec.selector.app)
    for (const { spec } of byKind('PodDisruptionBudget'))
      expect(apps).toContain(spec.selector.matchLabels.app)
    const metric = byKind('HorizontalPodAutoscaler')[0]!.spec.metrics[0].external.metric.name
    expect(documented).toContain(metric)
  })
})

const hasKeepalived = spawnSync('keepalived', ['--version']).status === 0

test.skipIf(!hasKeepalived)('keepalived takes deploy/keepalived.conf (skipped without keepalived)', () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'evenkeel-keepalived-'))
  const log = path.join(directory, 'log')
  try {
    // It ends itself by a signal, whatever it has found; what it complains about is in the file.
    spawnSync('keepalived', [`--config-test=${log}`, '-f', path.join(root, 'deploy/keepalived.conf')])
    expect(readFileSync(log, 'utf8')).toBe('')
  } finally {
    rmSync(directory, { recursive: true })
  }
})

test('docs/behind-a-balancer.md shows deploy/keepalived.conf, shortened', () => {
  const shown = /^```\n(vrrp_script[\s\S]*?)^```/m.exec(read('docs/behind-a-balancer.md'))![1]!
  const whole = new Set(read('deploy/keepalived.conf').split('\n'))
  const others = shown
    .split('\n')
    .map((line) => line.replace(/ +# .*/, ''))
    .filter((line) => !whole.has(line))
  expect(others).toEqual([])
})

const hasSystemd = spawnSync('systemd-analyze', ['--version']).status === 0

describe('systemd', () => {
  const folder = path.join(root, 'deploy/systemd')
  const units = readdirSync(folder)

  test.skipIf(!hasSystemd)('systemd-analyze takes the units (skipped without systemd)', () => {
    for (const unit of units) {
      const { stderr } = spawnSync('systemd-analyze', ['verify', path.join(folder, unit)], {
        encoding: 'utf8',
      })
      // What they start is not installed here.
      expect(stderr.split('\n').filter((line) => line !== '' && !line.includes('is not executable'))).toEqual(
        [],
      )
    }
  })

  test('drains have their time, and variables mean something', () => {
    const seconds = (unit: string) =>
      Number(/^TimeoutStopSec=(\d+)$/m.exec(read(`deploy/systemd/${unit}`))?.[1])
    expect(seconds('evenkeel-gateway.service')).toBeGreaterThan(gatewaySeconds)
    expect(seconds('evenkeel-node@.service')).toBeGreaterThan(drainSeconds)
    const known = environmentVariables().map(({ variable }) => variable)
    for (const unit of units)
      for (const [name] of read(`deploy/systemd/${unit}`).matchAll(/\bEVENKEEL_\w+/g))
        expect(known).toContain(name)
  })
})
