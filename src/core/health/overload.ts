/** `shedding`: new work is refused. `critical`: new connections are not even answered. */
export type Pressure = 'normal' | 'shedding' | 'critical'

/**
 * What a gateway is measured by: how late its event loop is, in milliseconds; the memory of its process, in bytes; the part of the
 * largest heap that is in use; file descriptors that are open.
 */
export type Strain = 'lag' | 'memory' | 'heap' | 'descriptors'

/** Absent: it is not looked at. */
export type Measures = Readonly<Partial<Record<Strain, number>>>

export interface OverloadRules {
  /** From here on new work is refused … */
  readonly shed: Measures
  /** … and from here on new connections are cut. */
  readonly cut: Measures
  /** Looks in a row that agree before it gets worse … */
  readonly looksToShed: number
  /** … and before it gets better by one step. */
  readonly looksToRecover: number
}

export interface PressureChange {
  readonly from: Pressure
  readonly to: Pressure
  /** What is worst; null: nothing is. */
  readonly strain: Strain | null
}

/** It is better only below this part of the limit: else the load that comes back would be refused at once. */
const recoveredAt = 0.8

const levels: readonly Pressure[] = ['normal', 'shedding', 'critical']

/**
 * Judges by measurements, at even intervals, how much a gateway can take on. One bad look says nothing: a large garbage collection, a
 * machine that was suspended.
 */
export class Overload {
  /** Those of this moment; a change of them counts from the next look on. */
  rules: OverloadRules
  private level = 0
  private worse = 0
  private better = 0
  /** How bad the best of the bad looks in a row was. */
  private agreed = 0

  constructor(rules: OverloadRules) {
    this.rules = rules
  }

  get pressure(): Pressure {
    return levels[this.level]!
  }

  /** Returns what has changed, or null. */
  look(measures: Measures): PressureChange | null {
    const { looksToShed, looksToRecover } = this.rules
    const level = this.levelOf(measures)
    if (level > this.level) {
      this.better = 0
      this.agreed = this.worse === 0 ? level : Math.min(this.agreed, level)
      if (++this.worse < looksToShed) return null
      return this.goTo(this.agreed, measures)
    }
    this.worse = 0
    if (this.level === 0 || !this.isRelieved(measures)) {
      this.better = 0
      return null
    }
    if (++this.better < looksToRecover) return null
    return this.goTo(this.level - 1, measures)
  }

  private goTo(level: number, measures: Measures): PressureChange {
    const from = this.pressure
    this.level = level
    this.worse = 0
    this.better = 0
    return { from, to: this.pressure, strain: level === 0 ? null : this.worst(measures) }
  }

  private levelOf(measures: Measures): number {
    if (reaches(measures, this.rules.cut, 1)) return 2
    return reaches(measures, this.rules.shed, 1) ? 1 : 0
  }

  /** Well below what has brought it to where it is. */
  private isRelieved(measures: Measures): boolean {
    return !reaches(measures, this.level === 2 ? this.rules.cut : this.rules.shed, recoveredAt)
  }

  private worst(measures: Measures): Strain | null {
    let worst: Strain | null = null
    let most = 0
    for (const strain of strains) {
      const part = (measures[strain] ?? 0) / (this.rules.shed[strain] ?? Number.POSITIVE_INFINITY)
      if (part <= most) continue
      worst = strain
      most = part
    }
    return worst
  }
}

const strains: readonly Strain[] = ['lag', 'memory', 'heap', 'descriptors']

function reaches(measures: Measures, limits: Measures, part: number): boolean {
  return strains.some((strain) => {
    const [measure, limit] = [measures[strain], limits[strain]]
    return measure !== undefined && limit !== undefined && measure >= limit * part
  })
}
