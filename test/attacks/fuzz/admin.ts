import type { Random } from '../../support/random.ts'
import type { Fuzzer } from './fuzzer.ts'
import { HttpLane, inLanes } from './lanes.ts'
import { mutateText } from './mutate.ts'

/** Nothing here names a node or a gateway that is there, except for its weight: what is asked for is done. */
const requests: readonly [method: string, path: string, body: string][] = [
  ['PATCH', '/nodes/good', '{"weight":2}'],
  ['POST', '/nodes/nobody/drain', '{"deadlineMs":1000,"ratePerSecond":5}'],
  ['POST', '/nodes/nobody/activate', '{}'],
  ['POST', '/rebalance', '{"pool":"default","dryRun":true}'],
  ['POST', '/upstreams', '{"pool":"legacy","url":"http://10.255.255.1:3000","weight":2,"id":"u"}'],
  ['DELETE', '/upstreams/u', ''],
  ['POST', '/sessions/nobody/migrate', '{"to":"good"}'],
  ['DELETE', '/sessions/nobody', ''],
  ['POST', '/publish', '{"channel":"room","data":"hello"}'],
  ['POST', '/gateways/nobody/drain', '{}'],
  ['GET', '/sessions?node=good&limit=10&cursor=x', ''],
  ['GET', '/channels/room', ''],
  ['GET', '/operations/x', ''],
  ['GET', '/nodes/good', ''],
]
const batch = 16
const bodies = requests.map(([, , body]) => body)
const paths = requests.map(([, path]) => path)

export const adminFuzzer: Fuzzer = {
  name: 'admin JSON',
  async run({ internalPort, adminToken }, random, count) {
    const lanes = Array.from({ length: 12 }, () => new HttpLane(internalPort))
    const taken = await inLanes(lanes.length, count, async (lane) => {
      const inputs = Array.from({ length: batch }, () => hostileRequest(random, adminToken))
      return Math.max(1, await lanes[lane]!.send(inputs))
    })
    for (const lane of lanes) lane.drop()
    return taken
  },
}

function hostileRequest(random: Random, token: string): Buffer {
  const [method, path, body] = random.pick(requests)
  const hurtPath = random.chance(0.2) ? mutateText(random, path, paths) : path
  const hurtBody = Buffer.from(random.chance(0.9) && body !== '' ? mutateText(random, body, bodies) : body)
  const head = [
    `${method} /api/v1${hurtPath.replace(/[^\x21-\x7e]/g, '_')} HTTP/1.1`,
    'Host: 127.0.0.1',
    `Authorization: Bearer ${token}`,
    `Content-Type: ${random.chance(0.95) ? 'application/json' : 'text/plain'}`,
    `Content-Length: ${hurtBody.length}`,
  ]
  return Buffer.concat([Buffer.from(`${head.join('\r\n')}\r\n\r\n`), hurtBody])
}
