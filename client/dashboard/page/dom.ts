type Child = Node | string | null
type Attributes = Record<string, string | number | boolean | EventListener | undefined>

/** An element with attributes (`onclick` and the like are listeners) and children; text is never markup. */
export function el<K extends keyof HTMLElementTagNameMap>(
  name: K,
  attributes: Attributes = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(name)
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(key.slice(2), value)
    else if (value === true) element.setAttribute(key, '')
    else if (value !== false && value !== undefined) element.setAttribute(key, String(value))
  }
  for (const child of children) if (child !== null) element.append(child)
  return element
}

export function byId<T extends HTMLElement = HTMLElement>(id: string): T {
  return document.getElementById(id) as T
}

/** Writes only what has changed: an unchanged text costs no layout, and is not read out again. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text
}

export function setAttribute(element: Element, name: string, value: string): void {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value)
}

export function replace(parent: Element, ...children: Child[]): void {
  parent.replaceChildren(...children.filter((child) => child !== null))
}
