/**
 * Cookies with which Exchange routes requests to the server that holds a mailbox. They are kept for each anchor
 * mailbox, and sent only to the origin that set them.
 */
import { clock } from "../../../time.ts";

export interface CookieJar {
  header(url: URL, anchor: string): string | undefined;
  store(url: URL, anchor: string, set: readonly string[] | undefined): void;
}

const MAX_ANCHORS = 5000;
const MAX_COOKIES = 30;
const MAX_COOKIE_LENGTH = 4096;

/** An empty jar. It forgets the anchors that were unused for the longest time. */
export function cookieJar(): CookieJar {
  const jar = new Map<string, Map<string, string>>();

  return {
    header({ origin }, anchor) {
      const found = jar.get(`${origin} ${anchor}`);
      if (!found || found.size === 0) return undefined;
      return [...found].map(([name, value]) => `${name}=${value}`).join("; ");
    },
    store({ origin }, anchor, set) {
      if (!set || set.length === 0) return;
      const key = `${origin} ${anchor}`;
      const cookies = jar.get(key) ?? new Map<string, string>();
      for (const line of set) storeCookie(cookies, line);
      jar.delete(key);
      jar.set(key, cookies);
      const [oldest] = jar.keys();
      if (jar.size > MAX_ANCHORS && oldest !== undefined) jar.delete(oldest);
    },
  };
}

/** One Set-Cookie (RFC 6265 section 5.2). Only the attributes that delete a cookie matter here. */
function storeCookie(cookies: Map<string, string>, line: string): void {
  const [pair = "", ...attributes] = line.split(";");
  const at = pair.indexOf("=");
  const name = pair.slice(0, at).trim();
  if (at <= 0 || pair.length > MAX_COOKIE_LENGTH) return;
  cookies.delete(name);
  if (!attributes.some(isExpired) && cookies.size < MAX_COOKIES) cookies.set(name, pair.slice(at + 1).trim());
}

function isExpired(attribute: string): boolean {
  const [name = "", value = ""] = attribute.split("=", 2).map((part) => part.trim());
  if (name.toLowerCase() === "max-age") return Number(value) <= 0;
  return name.toLowerCase() === "expires" && Date.parse(value) <= clock.now();
}
