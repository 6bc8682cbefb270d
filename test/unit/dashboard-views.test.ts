import { expectTypeOf, test } from 'vitest'
import type * as page from '../../client/dashboard/page/views.ts'
import type { StatsSample } from '../../src/admin/stats.ts'
import type * as operator from '../../src/gateway/operator.ts'

/** The page is built without the gateway; what it believes of the admin API's answers has to be so. */
test('what the dashboard reads is what the admin API says', () => {
  expectTypeOf<operator.NodeView>().toExtend<page.NodeView>()
  expectTypeOf<operator.GatewayView>().toExtend<page.GatewayView>()
  expectTypeOf<operator.SessionDetails>().toExtend<page.SessionDetails>()
  expectTypeOf<operator.RebalanceResult>().toExtend<page.Plan>()
  expectTypeOf<operator.Operation>().toExtend<page.Operation>()
  expectTypeOf<StatsSample>().toExtend<page.Stats>()
})
