/** Finds mail addresses in lines of plain text, in linear time. */

/** An address and its place in the line: `from` to `to`, without angle brackets. */
export type FoundAddress = { address: string; from: number; to: number };

/** RFC 5321 section 4.5.3.1 allows 64 and 255. Addresses of mailing lists and gateways are longer. */
const LONGEST_LOCAL_PART = 256;
const LONGEST_DOMAIN = 255;
const LOCAL_PART = /[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\u0080-\uffff-]/;
const DOMAIN = /[A-Za-z0-9.\u0080-\uffff_-]/;

/** All addresses of a line, in order. The domain may be a bare host name or an address literal (`[192.0.2.1]`). */
export function findAddresses(line: string): FoundAddress[] {
  const found: FoundAddress[] = [];
  let free = 0;
  for (let at = line.indexOf("@"); at >= 0; at = line.indexOf("@", at + 1)) {
    const from = localPartStart(line, at, free);
    const to = domainEnd(line, at + 1);
    if (from === at || to === at + 1) continue;
    found.push({ address: line.slice(from, to), from, to });
    free = to;
  }
  return found;
}

function localPartStart(line: string, at: number, free: number): number {
  const lowest = Math.max(free, at - LONGEST_LOCAL_PART);
  if (line[at - 1] === '"') {
    const quote = line.lastIndexOf('"', at - 2);
    return quote < lowest ? at : quote;
  }
  let from = at;
  while (from > lowest && LOCAL_PART.test(line.charAt(from - 1))) from--;
  while (from < at && /[.'`*]/.test(line.charAt(from))) from++;
  return from;
}

function domainEnd(line: string, from: number): number {
  if (line[from] === "[") {
    const bracket = line.indexOf("]", from);
    return bracket < 0 || bracket - from > LONGEST_DOMAIN ? from : bracket + 1;
  }
  let to = from;
  while (to < line.length && to - from < LONGEST_DOMAIN && DOMAIN.test(line.charAt(to))) to++;
  while (to > from && /[.\-_]/.test(line.charAt(to - 1))) to--;
  return to;
}

/**
 * An address without the text around it in reports: a type (`rfc822;`), angle brackets, quotes, a name. Null if nothing
 * is left.
 */
export function bareAddress(value: string | undefined): string | null {
  if (value === undefined) return null;
  const untyped = value
    .slice(0, 1000)
    .replace(/^\s*[a-z][a-z0-9-]{0,20}\s*;/i, "")
    .trim();
  const unquoted = untyped.replace(/^"([^"]*)"$/, "$1").replace(/^'([^']*)'$/, "$1");
  const address = findAddresses(unquoted)[0]?.address;
  // Some reports have local names without a domain.
  return address ?? (unquoted.replace(/^<([^<>]*)>.*$/, "$1").trim() || null);
}
