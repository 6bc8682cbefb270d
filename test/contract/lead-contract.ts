import { expect, test } from 'vitest'
import { joinMany, type TestMember, type World } from './worlds.ts'

/** What every exclusive lease does. */
export function leadContract(world: World): void {
  const longMs = 60_000

  test('one of many leads, and can renew', async () => {
    const members = await joinMany(world.createCluster(), 4)
    const answers = await Promise.all(members.map(({ registry }) => registry.lead('plan', longMs)))
    expect(answers.filter(Boolean)).toHaveLength(1)
    const leader = members[answers.indexOf(true)]!
    expect(await leader.registry.lead('plan', longMs)).toBe(true)
    const again = await Promise.all(members.map(({ registry }) => registry.lead('plan', longMs)))
    expect(again).toEqual(answers)
    // Another name is another lease.
    const [other] = members.filter((member) => member !== leader)
    expect(await other!.registry.lead('another-plan', longMs)).toBe(true)
  })

  test('it passes on when the leader falls silent, and the leader knows when it asks', async () => {
    const [a, b] = (await joinMany(world.createCluster(), 2)) as [TestMember, TestMember]
    expect(await a.registry.lead('plan', 1_000)).toBe(true)
    expect(await b.registry.lead('plan', longMs)).toBe(false)
    await expect.poll(() => b.registry.lead('plan', longMs), { timeout: 20_000 }).toBe(true)
    // What is no longer one's own cannot be given back.
    await a.registry.resign('plan')
    expect(await a.registry.lead('plan', longMs)).toBe(false)
    await a.registry.withdraw()
    expect(await a.registry.lead('plan', longMs)).toBe(false)
  })

  test('a renewal makes it last', async () => {
    const [a, b] = (await joinMany(world.createCluster(), 2)) as [TestMember, TestMember]
    expect(await a.registry.lead('plan', 300)).toBe(true)
    expect(await a.registry.lead('plan', longMs)).toBe(true)
    // A lease of the first length, begun later, ends later than the first one would have.
    expect(await b.registry.lead('clock', 300)).toBe(true)
    await expect.poll(() => a.registry.lead('clock', longMs), { timeout: 20_000 }).toBe(true)
    expect(await b.registry.lead('plan', longMs)).toBe(false)
  })

  test('resigning and withdrawing pass it on at once', async () => {
    const [a, b] = (await joinMany(world.createCluster(), 2)) as [TestMember, TestMember]
    expect(await a.registry.lead('plan', longMs)).toBe(true)
    await a.registry.resign('plan')
    expect(await b.registry.lead('plan', longMs)).toBe(true)
    await b.registry.withdraw()
    expect(await a.registry.lead('plan', longMs)).toBe(true)
  })

  test('mistakes have codes', async () => {
    const [{ registry }] = (await joinMany(world.createCluster(), 1)) as [TestMember]
    await expect(registry.lead('no spaces', longMs)).rejects.toMatchObject({ code: 'BAD_REQUEST' })
    await expect(registry.lead('plan', 0)).rejects.toMatchObject({ code: 'BAD_REQUEST' })
  })
}
