import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { Redis } from 'ioredis'

/** A real `redis-server` on 127.0.0.1, without persistence. */
export class RedisServer {
  readonly port: number
  private readonly directory: string
  private readonly args: readonly string[]
  private child: ChildProcess | null = null

  private constructor(port: number, directory: string, args: readonly string[]) {
    this.port = port
    this.directory = directory
    this.args = args
  }

  /** `args` are further options, such as `['--requirepass', 'x']`. */
  static async start(args: readonly string[] = []): Promise<RedisServer> {
    const directory = await mkdtemp(path.join(tmpdir(), 'evenkeel-redis-'))
    // Between finding a free port and taking it, another process may have taken it.
    for (let attempt = 1; ; attempt++) {
      const server = new RedisServer(await freePort(), directory, args)
      try {
        await server.restart()
        return server
      } catch (error) {
        if (attempt === 5 || !String(error).includes('in use')) throw error
      }
    }
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`
  }

  get running(): boolean {
    return this.child !== null
  }

  /** Starts it again on the same port; empty, because nothing was saved. */
  async restart(): Promise<void> {
    const listen = this.args.includes('--tls-port') ? [] : ['--port', String(this.port)]
    const fixed = ['--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', this.directory]
    const args = [...listen, ...fixed, ...this.args.map((arg) => arg.replace('PORT', String(this.port)))]
    const child = spawn('redis-server', args, { stdio: ['ignore', 'pipe', 'pipe'] })
    this.child = child
    let log = ''
    const collect = (chunk: unknown) => {
      log = (log + String(chunk)).slice(-4_000)
    }
    child.stderr!.on('data', collect)
    await new Promise<void>((resolve, reject) => {
      child.on('error', (error: NodeJS.ErrnoException) => {
        const missing = 'redis-server is missing; install it, for example with: apt-get install redis-server'
        reject(error.code === 'ENOENT' ? new Error(missing) : error)
      })
      child.on('exit', (code) => {
        if (this.child === child) this.child = null
        if (child.pid !== undefined) livePids.delete(child.pid)
        reject(new Error(`redis-server ended with ${code}: ${log}`))
      })
      child.stdout!.on('data', (chunk) => {
        collect(chunk)
        if (log.includes('Ready to accept connections')) resolve()
      })
      if (child.pid !== undefined) livePids.add(child.pid)
    })
  }

  /** Its id in a Redis Cluster. */
  async id(): Promise<string> {
    return String(await this.command('CLUSTER', 'MYID'))
  }

  /** kill -9. Resolves when the process is gone. */
  async kill(): Promise<void> {
    const { child } = this
    if (child === null) return
    const gone = once(child, 'exit')
    child.kill('SIGKILL')
    await gone
  }

  pause(): void {
    this.child?.kill('SIGSTOP')
  }

  resume(): void {
    this.child?.kill('SIGCONT')
  }

  /** Ends it, paused or not, and removes its directory. */
  async stop(): Promise<void> {
    await this.kill()
    await rm(this.directory, { recursive: true, force: true })
  }

  /** One command as any Redis client would send it. */
  async command(name: string, ...args: (string | number | Buffer)[]): Promise<unknown> {
    const client = new Redis(this.port, '127.0.0.1', { lazyConnect: true, enableReadyCheck: false })
    try {
      await client.connect()
      return await client.call(name, args)
    } finally {
      client.disconnect()
    }
  }
}

const lastSlot = 16_383

/** A Redis Cluster of masters that share the slots evenly. */
export class RedisClusterServers {
  /** The masters that were started, then the replicas. */
  readonly servers: RedisServer[]

  private constructor(servers: RedisServer[]) {
    this.servers = servers
  }

  static async start(masters = 3): Promise<RedisClusterServers> {
    const servers = await Promise.all(Array.from({ length: masters }, () => startClusterServer()))
    const cluster = new RedisClusterServers(servers)
    try {
      await cluster.form()
      return cluster
    } catch (error) {
      await cluster.stop()
      throw error
    }
  }

  /** All URLs, as the gateway takes them. */
  get url(): string {
    return this.servers.map((server) => server.url).join(',')
  }

  /** The server that has the slot of the key. */
  async ownerOf(key: string): Promise<RedisServer> {
    const running = this.servers.find((server) => server.running)!
    const slot = Number(await running.command('CLUSTER', 'KEYSLOT', key))
    const slots = (await running.command('CLUSTER', 'SLOTS')) as [number, number, [string, number]][]
    const port = slots.find(([start, end]) => start <= slot && slot <= end)?.[2][1]
    const owner = this.servers.find((server) => server.port === port)
    if (owner === undefined) throw new Error(`no server has slot ${slot}`)
    return owner
  }

  /** Moves one slot in the way of a resharding, with the keys in it left behind: for channels. */
  async moveSlot(slot: number, from: RedisServer, to: RedisServer): Promise<void> {
    const [source, target] = [await from.id(), await to.id()]
    // Only a server that imports a slot claims it with a new epoch; without one the others might not believe it.
    await to.command('CLUSTER', 'SETSLOT', slot, 'IMPORTING', source)
    await from.command('CLUSTER', 'SETSLOT', slot, 'MIGRATING', target)
    const others = this.servers.filter((server) => server !== to)
    for (const server of [to, ...others]) await server.command('CLUSTER', 'SETSLOT', slot, 'NODE', target)
  }

  /** Starts a replica; resolves when it has the master's data and would take over. */
  async addReplica(master: RedisServer): Promise<RedisServer> {
    const replica = await startClusterServer()
    // Each is told: gossip would take seconds.
    for (const server of this.servers) if (server.running) await meet(server, replica)
    this.servers.push(replica)
    await this.ready()
    await replica.command('CLUSTER', 'REPLICATE', await master.id())
    for (;;) {
      const info = String(await replica.command('INFO', 'replication'))
      if (info.includes('master_link_status:up')) break
      await delay(20)
    }
    // The other masters vote only for a replica that they know as one.
    for (const server of this.servers) {
      while (!String(await server.command('CLUSTER', 'NODES')).includes('slave')) await delay(20)
    }
    return replica
  }

  /** Resolves when every server says that the cluster is complete. */
  async ready(): Promise<void> {
    for (const server of this.servers) {
      for (;;) {
        const info = String(await server.command('CLUSTER', 'INFO'))
        if (info.includes('cluster_state:ok') && info.includes(`cluster_known_nodes:${this.servers.length}`))
          break
        await delay(20)
      }
    }
  }

  async stop(): Promise<void> {
    await Promise.all(this.servers.map((server) => server.stop()))
  }

  private async form(): Promise<void> {
    const share = Math.ceil((lastSlot + 1) / this.servers.length)
    for (const [index, server] of this.servers.entries()) {
      await server.command('CLUSTER', 'SET-CONFIG-EPOCH', index + 1)
      const end = Math.min(lastSlot, (index + 1) * share - 1)
      await server.command('CLUSTER', 'ADDSLOTSRANGE', index * share, end)
    }
    for (const [index, server] of this.servers.entries())
      for (const other of this.servers.slice(index + 1)) await meet(server, other)
    await this.ready()
  }
}

async function meet(known: RedisServer, other: RedisServer): Promise<void> {
  const [, busPort] = (await other.command('CONFIG', 'GET', 'cluster-port')) as [string, string]
  await known.command('CLUSTER', 'MEET', '127.0.0.1', other.port, busPort)
}

async function startClusterServer(): Promise<RedisServer> {
  const cluster = ['--cluster-enabled', 'yes', '--cluster-port', String(await freePort())]
  // A replica need not wait for others to come.
  const haste = ['--cluster-node-timeout', '1000', '--repl-diskless-sync-delay', '0']
  return await RedisServer.start([...cluster, ...haste])
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

// A test run that ends early must leave no server behind.
const livePids = new Set<number>()
process.on('exit', () => {
  for (const pid of livePids) {
    try {
      process.kill(pid, 'SIGKILL')
    } catch {
      // It is gone already.
    }
  }
})
