import { afterAll, beforeAll, describe } from 'vitest'
import { busContract } from './bus-contract.ts'
import { historyContract } from './history-contract.ts'
import { leadContract } from './lead-contract.ts'
import { registryContract } from './registry-contract.ts'
import { runLogContract } from './run-log-contract.ts'
import { upstreamsContract } from './upstreams-contract.ts'
import { worlds } from './worlds.ts'

describe.each(worlds)('$name', (world) => {
  beforeAll(() => world.start())
  afterAll(() => world.stop())

  describe('bus', () => busContract(world))
  describe('history', () => historyContract(world))
  describe('registry', () => registryContract(world))
  describe('lead', () => leadContract(world))
  describe('runs', () => runLogContract(world))
  describe('upstreams', () => upstreamsContract(world))
})
