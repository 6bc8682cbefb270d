/** The values of a cookie in a Cookie header; a client may send several of one name. */
export function cookieValues(header: string, name: string): string[] {
  const prefix = `${name}=`
  return header
    .split(';')
    .map((pair) => pair.trim())
    .filter((pair) => pair.startsWith(prefix))
    .map((pair) => pair.slice(prefix.length))
}
