import { Redis } from 'ioredis'
import type { Threat } from './threat.ts'
import { frame, openSocket, type Target } from './wire.ts'

/** What an operator grants to the gateway, and to another application of the same server (docs/redis.md). */
export const otherUser = {
  name: 'other',
  password: 'other',
  rules: ['resetchannels', '&other:*', '~other:*', '+@all'],
}

function client({ redisUrl }: Target, user?: typeof otherUser): Redis {
  const { hostname, port } = new URL(redisUrl)
  const login = user === undefined ? {} : { username: user.name, password: user.password }
  const redis = new Redis({
    host: hostname,
    port: Number(port),
    lazyConnect: true,
    enableReadyCheck: false,
    ...login,
  })
  redis.on('error', () => {})
  return redis
}

let rooms = 0

/** What can be done at the Redis that gateways share. */
export const redisThreats: readonly Threat[] = [
  {
    name: 'Redis: spoofing by another application',
    answer: 'NOPERM NOPERM NOPERM',
    perSecond: 10,
    redis: true,
    async attack(target) {
      const redis = client(target, otherUser)
      try {
        await redis.connect()
        const commands: [string, ...string[]][] = [
          ['PUBLISH', 'evenkeel:channel:room', 'forged'],
          ['HSET', 'evenkeel:{registry}:entries', 'node/evil', '{}'],
          ['SUBSCRIBE', 'evenkeel:channel:room'],
        ]
        const answers = commands.map(([name, ...args]) =>
          redis.call(name, ...args).then(
            () => 'done',
            (error: Error) => error.message.split(' ')[0],
          ),
        )
        return (await Promise.all(answers)).join(' ')
      } finally {
        redis.disconnect()
      }
    },
  },
  {
    name: 'Redis: a forged message of an old epoch',
    answer: 'only the true ones',
    perSecond: 5,
    redis: true,
    async attack(target) {
      const room = `kept:${process.pid}-${++rooms}`
      const socket = await openSocket(target.publicPort)
      const redis = client(target)
      try {
        socket.write(frame(`join ${room}`))
        await socket.text()
        const say = async (data: string) => {
          const response = await fetch(`http://127.0.0.1:${target.internalPort}/api/v1/publish`, {
            method: 'POST',
            headers: { authorization: `Bearer ${target.adminToken}`, 'content-type': 'application/json' },
            body: JSON.stringify({ channel: room, data }),
          })
          if (!response.ok) throw new Error(`publish: ${response.status}`)
        }
        const heard = new Set<string>()
        const hear = async (text: string) => {
          while (!heard.has(text)) heard.add(await socket.text())
        }
        // The gateway may not be subscribed when the node has joined.
        const again = setInterval(() => void say('first').catch(() => {}), 100)
        await hear('first').finally(() => clearInterval(again))
        await redis.connect()
        const forged = Buffer.from('\0ptolddays-7 forged')
        await redis.publish(`evenkeel:channel:${room}`, forged)
        await say('second')
        await hear('second')
        const all = [...heard].join()
        return all === 'first,second' ? 'only the true ones' : all
      } finally {
        redis.disconnect()
        socket.drop()
      }
    },
  },
  {
    name: 'Redis: garbage in what gateways tell each other',
    answer: 'passed over',
    perSecond: 5,
    redis: true,
    async attack(target) {
      const redis = client(target)
      const socket = await openSocket(target.publicPort)
      try {
        await redis.connect()
        const junk = Buffer.from('\0\xff{"type":"plan","parts":{"__proto__":[{}]}}', 'latin1')
        const entry = 'x'.repeat(10_000)
        await Promise.all([
          redis.publish('evenkeel:channel:$plans', junk),
          redis.publish('evenkeel:channel:$plans', '{"type":"plan","planner":1,"parts":null}'),
          redis.hset('evenkeel:{registry}:entries', 'node/hostile', entry, 'gateway/hostile', '{"kind":1}'),
          redis.hset(
            'evenkeel:{upstreams}:entries',
            'hostile',
            '{"pool":"legacy","url":"http://169.254.169.254"}',
          ),
          redis.publish('evenkeel:{registry}:changes', 'x'),
          redis.publish('evenkeel:{upstreams}:changes', 'x'),
        ])
        socket.write(frame('still there'))
        return (await socket.text()) === 'still there' ? 'passed over' : 'something else'
      } finally {
        redis.disconnect()
        socket.drop()
      }
    },
  },
]
