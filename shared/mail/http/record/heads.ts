/** URLs and heads of HTTP as a record shows them: only names and values that are known to hold no secret and no content. */
import type { IncomingHttpHeaders, OutgoingHttpHeaders } from "node:http";

/** The values of these fields say how a server was asked and how it is. */
const SHOWN_FIELDS = new Set([
  "content-type",
  "content-length",
  "content-range",
  "content-encoding",
  "connection",
  "date",
  "prefer",
  "preference-applied",
  "server",
  "retry-after",
  "soapaction",
  "x-anchormailbox",
  "x-prefercookieaffinity",
  "request-id",
  "client-request-id",
  "x-feserver",
  "x-beserver",
  "x-calculatedbetarget",
  "x-diaginfo",
  "x-ms-diagnostics",
  "x-ms-ags-diagnostic",
  "x-owa-version",
  "ratelimit-limit",
  "ratelimit-remaining",
  "ratelimit-reset",
]);
/** Options of Graph. Any other value may be a token, or repeat a message. */
const SHOWN_OPTIONS = new Set(["$select", "$top", "$expand", "$orderby", "$count", "changeType"]);
const MAX_VALUE = 200;
const MAX_SEGMENT = 40;
const ID_END = 8;

/** The URL with ids as their ends, and options of unknown meaning as their sizes. */
export function shownUrl(url: URL, isAddressSecret = false): string {
  if (isAddressSecret) return `${url.origin}/[address]`;
  const path = url.pathname
    .split("/")
    .map((segment) => (segment.length > MAX_SEGMENT ? shownId(segment) : segment))
    .join("/");
  const options = [...url.searchParams].map(([name, value]) =>
    SHOWN_OPTIONS.has(name) ? `${name}=${value.slice(0, MAX_VALUE)}` : `${name.slice(0, MAX_SEGMENT)}=${sizeOf(value)}`,
  );
  return `${url.origin}${path}${options.length > 0 ? `?${options.join("&")}` : ""}`;
}

/** The fields that are shown, and how many others there are. Of logins there is the scheme. */
export function shownHead(headers: IncomingHttpHeaders | OutgoingHttpHeaders): string {
  let others = 0;
  const shown: string[] = [];
  for (const [given, value] of Object.entries(headers)) {
    const name = given.toLowerCase();
    const text = [value ?? []].flat().join(", ");
    if (name === "authorization") shown.push(`${name}: ${schemesIn(text)} [credentials]`);
    else if (name === "www-authenticate") shown.push(`${name}: ${schemesIn(text)}`);
    else if (SHOWN_FIELDS.has(name)) shown.push(`${name}: ${text.slice(0, MAX_VALUE)}`);
    else others += 1;
  }
  if (others > 0) shown.push(`${others} more`);
  return `{${shown.join("; ")}}`;
}

const SCHEMES = /\b(?:Basic|Bearer|Digest|Negotiate|NTLM)\b(?=[\s,]|$)/gi;

function schemesIn(text: string): string {
  const schemes = new Set(Array.from(text.slice(0, 4 * MAX_VALUE).matchAll(SCHEMES), ([scheme]) => scheme));
  return [...schemes].join(", ") || "[another scheme]";
}

/** Enough of an id to find it again. */
export function shownId(id: string): string {
  return id.length > MAX_SEGMENT ? `…${id.slice(-ID_END)}` : id;
}

export function sizeOf(text: string): string {
  return `[${text.length} characters]`;
}

/** Words of a server without what stands between the first and the last quotation mark, because that may be of a message. */
export function withoutQuotes(words: string): string {
  const from = words.search(/(?<![\p{L}\p{N}])['"\u201c\u2018]/u);
  if (from < 0) return words.slice(0, MAX_VALUE);
  const last = Math.max(...["'", '"', "\u201d", "\u2019"].map((mark) => words.lastIndexOf(mark)));
  const to = last > from ? last : words.length;
  return `${words.slice(0, from).slice(0, MAX_VALUE)}'${sizeOf(words.slice(from + 1, to))}'${words.slice(to + 1).slice(0, MAX_VALUE)}`;
}
