/** Cookies by which Exchange leads requests to the server that holds a mailbox; kept for each anchor mailbox, and sent to the origin that set them. */

export interface Cookies {
  header(url: URL, anchor: string): string | undefined;
  keep(url: URL, anchor: string, set: readonly string[] | undefined): void;
}

const MOST_ANCHORS = 5000;
const MOST_COOKIES = 30;
const MOST_CHARACTERS = 4096;

/** An empty jar. It forgets the anchors that were unused the longest. */
export function cookieJar(): Cookies {
  const jar = new Map<string, Map<string, string>>();

  return {
    header({ origin }, anchor) {
      const found = jar.get(`${origin} ${anchor}`);
      if (!found || found.size === 0) return undefined;
      return [...found].map(([name, value]) => `${name}=${value}`).join("; ");
    },
    keep({ origin }, anchor, set) {
      if (!set || set.length === 0) return;
      const key = `${origin} ${anchor}`;
      const cookies = jar.get(key) ?? new Map<string, string>();
      for (const line of set) keepOne(cookies, line);
      jar.delete(key);
      jar.set(key, cookies);
      const [oldest] = jar.keys();
      if (jar.size > MOST_ANCHORS && oldest !== undefined) jar.delete(oldest);
    },
  };
}

/** One Set-Cookie (RFC 6265 section 5.2); of its attributes only those that take the cookie back matter here. */
function keepOne(cookies: Map<string, string>, line: string): void {
  const [pair = "", ...attributes] = line.split(";");
  const at = pair.indexOf("=");
  const name = pair.slice(0, at).trim();
  if (at <= 0 || pair.length > MOST_CHARACTERS) return;
  cookies.delete(name);
  if (!attributes.some(takesBack) && cookies.size < MOST_COOKIES) cookies.set(name, pair.slice(at + 1).trim());
}

function takesBack(attribute: string): boolean {
  const [name = "", value = ""] = attribute.split("=", 2).map((part) => part.trim());
  if (name.toLowerCase() === "max-age") return Number(value) <= 0;
  return name.toLowerCase() === "expires" && Date.parse(value) <= Date.now();
}
