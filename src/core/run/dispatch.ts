/** A node that produces runs of one name, as dispatching sees it. */
export interface Producer {
  readonly id: string
  /** Runs that it makes, over all gateways. */
  readonly outstanding: number
  /** Runs that it makes at once. */
  readonly concurrency: number
  readonly weight: number
  readonly available: boolean
}

export function freePlaces(producers: readonly Producer[]): number {
  return producers.reduce((sum, producer) => sum + placesOf(producer), 0)
}

function placesOf({ available, concurrency, outstanding }: Producer): number {
  return available ? Math.max(0, concurrency - outstanding) : 0
}

/** The one with the least work for its weight; null: all have as much as they take. */
export function pickProducer<P extends Producer>(producers: readonly P[]): P | null {
  let best: P | null = null
  for (const producer of producers) {
    if (placesOf(producer) === 0) continue
    if (best === null || (producer.outstanding + 1) / producer.weight < (best.outstanding + 1) / best.weight)
      best = producer
  }
  return best
}
