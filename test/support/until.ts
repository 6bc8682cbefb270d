export interface Waiting {
  /** What is waited for, for the message of the failure. */
  what?: string
  /** Default 20 s: far more than anything needs, because a busy machine is no failure. */
  timeoutMs?: number
}

/** Resolves once `condition` holds. It is looked at now and whenever something calls the look that stands in `looks`. */
export function until(
  condition: () => boolean,
  looks: Set<() => void>,
  { what = String(condition), timeoutMs = 20_000 }: Waiting = {},
): Promise<void> {
  return new Promise((resolve, reject) => {
    const finish = (end: () => void) => {
      clearTimeout(timer)
      looks.delete(look)
      end()
    }
    const look = () => {
      if (condition()) finish(resolve)
    }
    const timer = setTimeout(
      () => finish(() => reject(new Error(`waited ${timeoutMs} ms in vain: ${what}`))),
      timeoutMs,
    )
    looks.add(look)
    look()
  })
}
