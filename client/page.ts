import type { PageLike } from './types.ts'

export interface PageHandlers {
  /** The page or the network is back, perhaps. May be called when nothing has changed. */
  awake(): void
  /** The page is put away and may come back as it was; until then nothing of it runs. */
  asleep(): void
}

interface PageEvent {
  readonly type: string
  readonly persisted?: boolean
}

const types = ['online', 'visibilitychange', 'pageshow', 'pagehide', 'resume']

/** Listens to the page; returns what ends that. */
export function watchPage(page: PageLike, { awake, asleep }: PageHandlers): () => void {
  const listener = ({ type, persisted }: PageEvent) => {
    if (type === 'pagehide') {
      // A page that will not come back takes its connection with it anyway.
      if (persisted === true) asleep()
    } else if (page.document?.visibilityState !== 'hidden' || type === 'online') awake()
  }
  // `visibilitychange` and `resume` happen to the document and pass the window on their way.
  for (const type of types) page.addEventListener(type, listener, true)
  return () => {
    for (const type of types) page.removeEventListener(type, listener, true)
  }
}
