/**
 * `cid:` URLs in an HTML body, and the Content-IDs that they refer to. A URL is percent-encoded (RFC 2392). Programs
 * also write it with angle brackets, HTML entities or other capitals. A Content-ID has none of these.
 */

const CID_URL = /(?<![A-Za-z0-9_])cid:\s*/gi;
/** At one of these characters the attribute with the URL ends. */
const ATTRIBUTE_END = /["'\r\n]/;
/** Where a URL may end, inside its attribute or outside one: `>`, `url(...)`, `[cid:...]`, `&quot;`, a blank. */
const POSSIBLE_END = /[\s>)\]&,;]/g;
/** Limits of the work that a hostile body can cause. */
const MAX_URL_LENGTH = 400;
const MAX_ENDS = 12;
const MAX_URLS = 5_000;

/** One form for all spellings of an id. */
function fold(id: string): string {
  return decodePercent(decodeEntities(id))
    .trim()
    .replace(/^<(.*)>$/s, "$1")
    .trim()
    .toLowerCase();
}

const ENTITIES: Record<string, string> = { lt: "<", gt: ">", amp: "&", quot: '"', apos: "'", commat: "@", period: "." };

function decodeEntities(text: string): string {
  return text.replace(/&(?:#(\d{1,6})|#x([0-9a-f]{1,5})|([a-z]+));/gi, (entity, decimal, hex, name) => {
    const code = decimal === undefined ? Number.parseInt(hex, 16) : Number(decimal);
    if (name === undefined) return code <= 0x10ffff ? String.fromCodePoint(code) : entity;
    return ENTITIES[String(name).toLowerCase()] ?? entity;
  });
}

/**
 * Decodes percent-encoded text. If the result is no UTF-8, it returns the text unchanged: an id may contain a percent
 * sign.
 */
function decodePercent(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/**
 * The ids that the body refers to, and the body with these spellings of them, or with the result of `write` for an id.
 */
export function linkContentIds(
  body: string,
  ids: readonly string[],
  write = (id: string) => id,
): { body: string; linked: ReadonlySet<string> } {
  const byFolded = new Map<string, string>();
  for (const id of ids) if (id !== "" && !byFolded.has(fold(id))) byFolded.set(fold(id), id);
  const linked = new Set<string>();
  if (byFolded.size === 0) return { body, linked };
  let rewritten = "";
  let done = 0;
  let urls = 0;
  for (const { index, 0: scheme } of body.matchAll(CID_URL)) {
    if (++urls > MAX_URLS) break;
    const start = index + scheme.length;
    const found = start < done ? undefined : findId(body.slice(start, start + MAX_URL_LENGTH), byFolded);
    if (!found) continue;
    linked.add(found.id);
    rewritten += `${body.slice(done, index)}cid:${write(found.id)}`;
    done = start + found.length;
  }
  return { body: rewritten + body.slice(done), linked };
}

/** The longest spelling of a known id at the start of the text, and its length. */
function findId(text: string, byFolded: ReadonlyMap<string, string>): { id: string; length: number } | undefined {
  const end = text.search(ATTRIBUTE_END);
  const whole = end < 0 ? text : text.slice(0, end);
  const ends = [...whole.matchAll(POSSIBLE_END)].slice(0, MAX_ENDS).flatMap(({ index }) => [index, index + 1]);
  for (const length of [whole.length, ...ends.toReversed()]) {
    const id = byFolded.get(fold(whole.slice(0, length)));
    if (id !== undefined) return { id, length: whole.slice(0, length).trimEnd().length };
  }
  return undefined;
}
