/** The element with this id, which is of this kind. Throws when the page has none. */
export function element<Kind extends HTMLElement>(id: string, kind: new () => Kind): Kind {
  const found = document.getElementById(id)
  if (!(found instanceof kind)) throw new Error(`the page has no ${kind.name} #${id}`)
  return found
}

/** Text is only ever text here. */
export function create<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  text = '',
  attributes: Record<string, string> = {},
): HTMLElementTagNameMap[Name] {
  const made = document.createElement(name)
  made.textContent = text
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value)
  return made
}

/** Changes a list that scrolls, and stays at its end if that was in sight. */
export function keepingEnd(list: HTMLElement, change: () => void): void {
  const isAtEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40
  change()
  if (isAtEnd) list.scrollTop = list.scrollHeight
}

/** What this tab keeps over a reload. */
export function recall<Value>(key: string, otherwise: Value): Value {
  try {
    return JSON.parse(sessionStorage.getItem(key) ?? '') as Value
  } catch {
    return otherwise
  }
}

export function remember(key: string, value: unknown): void {
  try {
    sessionStorage.setItem(key, JSON.stringify(value))
  } catch {
    // A full or forbidden store costs the memory of this tab, and nothing else.
  }
}
