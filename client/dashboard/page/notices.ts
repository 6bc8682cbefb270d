import { byId, setText } from './dom.ts'

const shownMs = 6_000
let timer: ReturnType<typeof setTimeout> | undefined

/** Tells the operator, also one who listens, what has happened. */
export function say(text: string): void {
  const notice = byId('notice')
  setText(notice, text)
  notice.dataset.shown = ''
  clearTimeout(timer)
  timer = setTimeout(() => {
    delete notice.dataset.shown
  }, shownMs)
}
