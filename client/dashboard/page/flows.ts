/** Dots on their way at once; of more migrations one dot stands for several. */
const dotsMax = 120
const flightMs = 700

type Place = (node: string) => { x: number; y: number } | null

interface Dot {
  from: string
  to: string
  startedAt: number
}

/** Sessions that flow from bar to bar as they migrate. Whoever wants less motion sees none of it. */
export class Flows {
  private readonly canvas: HTMLCanvasElement
  private readonly place: Place
  private readonly still = matchMedia('(prefers-reduced-motion: reduce)')
  private dots: Dot[] = []
  private drawing = false

  constructor(canvas: HTMLCanvasElement, place: Place) {
    this.canvas = canvas
    this.place = place
  }

  moved(from: string, to: string): void {
    if (this.still.matches || document.hidden || this.dots.length >= dotsMax) return
    this.dots.push({ from, to, startedAt: performance.now() })
    if (this.drawing) return
    this.drawing = true
    requestAnimationFrame(this.frame)
  }

  private readonly frame = (now: number): void => {
    const { canvas } = this
    const context = canvas.getContext('2d')!
    const { left, top, width, height } = canvas.getBoundingClientRect()
    const scale = devicePixelRatio
    if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale)
    if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale)
    context.setTransform(scale, 0, 0, scale, -left * scale, -top * scale)
    context.clearRect(left, top, width, height)
    context.fillStyle = getComputedStyle(canvas).color
    this.dots = this.dots.filter(({ startedAt }) => now - startedAt < flightMs)
    // One look at the layout a frame for each node, not for each dot.
    const places = new Map<string, { x: number; y: number } | null>()
    const at = (node: string) => {
      if (!places.has(node)) places.set(node, this.place(node))
      return places.get(node)!
    }
    for (const { from, to, startedAt } of this.dots) {
      const [a, b] = [at(from), at(to)]
      if (a === null || b === null) continue
      const t = Math.max(0, (now - startedAt) / flightMs)
      const eased = t * t * (3 - 2 * t)
      const bend = Math.min(80, Math.abs(b.y - a.y) / 2)
      context.globalAlpha = 1 - Math.abs(2 * t - 1) ** 4
      context.beginPath()
      context.arc(
        a.x + (b.x - a.x) * eased + bend * Math.sin(Math.PI * t),
        a.y + (b.y - a.y) * eased,
        3,
        0,
        2 * Math.PI,
      )
      context.fill()
    }
    this.drawing = this.dots.length > 0
    if (this.drawing) requestAnimationFrame(this.frame)
  }
}
