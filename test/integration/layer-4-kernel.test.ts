import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { missingForNamespaces, Namespace, wire } from '../support/namespaces.ts'

const missing = missingForNamespaces([
  'iptables -t mangle -A PREROUTING -p tcp -m socket --transparent --nowildcard -j MARK --set-mark 1',
  'iptables -t mangle -A PREROUTING -p tcp --dport 9 -j TPROXY --on-port 7000 --tproxy-mark 1',
  'sysctl -w net.ipv4.fib_multipath_hash_policy=1',
])

function configFile(config: object): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'evenkeel-layer-4-'))
  onTestFinished(() => rmSync(directory, { recursive: true }))
  const file = path.join(directory, 'gateway.json')
  const internal = { host: '127.0.0.1', port: 8081 }
  writeFileSync(file, JSON.stringify({ public: { host: '127.0.0.1', port: 8080 }, internal, ...config }))
  return file
}

describe.skipIf(missing !== null)(
  `in network namespaces${missing === null ? '' : ` (skipped: ${missing})`}`,
  () => {
    test('transparent: neither client nor server sees a proxy', async () => {
      const [client, gateway, server] = ['c', 'g', 's'].map((label) => new Namespace(label)) as [
        Namespace,
        Namespace,
        Namespace,
      ]
      wire(client, '10.91.1.2/24', gateway, '10.91.1.1/24')
      wire(server, '10.91.2.2/24', gateway, '10.91.2.1/24')
      client.ip('route', 'add', 'default', 'via', '10.91.1.1')
      server.ip('route', 'add', 'default', 'via', '10.91.2.1')
      gateway.exec('deploy/transparent.sh', 'up', '9000')
      await server.startTelling(9000, 'socket.end(socket.remoteAddress)')
      await gateway.start('haproxy', ['-db', '-V', '-f', 'deploy/transparent.cfg'], (line) => line !== '', {
        SERVER: '10.91.2.2:9000',
      })
      const from = { proxyProtocol: 'required', proxyProtocolFrom: ['127.0.0.1'] }
      await gateway.startGateway(
        configFile({
          pools: { servers: { upstreams: ['tcp://127.0.0.1:7011'], proxyProtocol: 'v2' } },
          tcp: [{ host: '127.0.0.1', port: 7001, pool: 'servers', ...from }],
        }),
      )
      // The client knows the server's own address only, and the server sees the client's; yet nothing is forwarded.
      expect(gateway.exec('sysctl', '-n', 'net.ipv4.ip_forward').trim()).toBe('0')
      expect(client.ask('10.91.2.2', 9000)).toEqual(['::ffff:10.91.1.2'])
      gateway.exec('deploy/transparent.sh', 'down', '9000')
      expect(gateway.exec('iptables', '-t', 'mangle', '-S', 'PREROUTING').trim()).toBe('-P PREROUTING ACCEPT')
    })

    test('direct server return: what a router spreads by hash comes back without it', async () => {
      const net = new Namespace('n')
      net.ip('link', 'add', 'br0', 'type', 'bridge')
      net.ip('link', 'set', 'br0', 'up')
      const plug = (label: string, address: string) => {
        const space = new Namespace(label)
        wire(space, address, net, '')
        net.ip('link', 'set', `v${space.name.slice(-8)}`, 'master', 'br0')
        return space
      }
      const vip = '10.93.0.1'
      const client = plug('c', '10.92.0.2/24')
      const router = plug('r', '10.92.0.1/24')
      const gateways = [plug('g1', '10.92.0.11/24'), plug('g2', '10.92.0.12/24')]
      client.ip('route', 'add', vip, 'via', '10.92.0.1')
      const settings = ['net.ipv4.ip_forward=1', 'net.ipv4.fib_multipath_hash_policy=1']
      const quiet = ['net.ipv4.conf.all.send_redirects=0', 'net.ipv4.conf.default.send_redirects=0']
      const device = `v${net.name.slice(-8)}`
      router.exec('sysctl', '-w', ...settings, ...quiet, `net.ipv4.conf.${device}.send_redirects=0`)
      router.ip('route', 'add', vip, 'nexthop', 'via', '10.92.0.11', 'nexthop', 'via', '10.92.0.12')
      router.exec('iptables', '-A', 'FORWARD', '-s', vip)
      await Promise.all(
        gateways.map(async (gateway, index) => {
          gateway.ip('address', 'add', `${vip}/32`, 'dev', 'lo')
          await gateway.startTelling(9000, `socket.on('data', (data) => socket.end('${index} ' + data))`)
          const pools = { servers: { upstreams: ['tcp://127.0.0.1:9000'], proxyProtocol: 'v1' } }
          await gateway.startGateway(configFile({ pools, tcp: [{ port: 7000, pool: 'servers' }] }))
        }),
      )
      const answers = client.ask(vip, 7000, 30)
      for (const answer of answers) expect(answer).toMatch(/^[01] PROXY TCP4 10\.92\.0\.2 10\.93\.0\.1 /)
      expect(new Set(answers.map((answer) => answer[0])).size).toBe(2)
      const counters = router.exec('iptables', '-nvxL', 'FORWARD')
      expect(counters).toMatch(/^\s*0\s+0\s.*10\.93\.0\.1/m)
    })
  },
)
