/** Which hosts a mailbox's credentials may be shown to: those of its own domain, and those its client allowed by a regular expression. */
import { Problem } from "../../../contract/problem.ts";
import { type Matcher, matcherOf } from "./pattern.ts";

/** True for a URL that may be asked with the mailbox's credentials. */
export type Allowed = (url: URL) => boolean;

/** Longer addresses match nothing. */
const LONGEST_URL = 2048;

/** The rule for a domain and a pattern. Only HTTPS is ever allowed. Throws `autodiscover` for a pattern that cannot be used. */
export function allowedBy(domain: string, pattern: string | undefined): Allowed {
  const matches = pattern === undefined || pattern === "" ? () => false : compiled(pattern);
  return (url) => {
    if (url.protocol !== "https:" || url.username !== "" || url.password !== "") return false;
    return isOf(domain, url.hostname) || (url.href.length <= LONGEST_URL && matches(url.href));
  };
}

/** True for the domain itself and every host under it. */
function isOf(domain: string, host: string): boolean {
  const own = domain.toLowerCase();
  return host.toLowerCase() === own || host.toLowerCase().endsWith(`.${own}`);
}

function compiled(pattern: string): Matcher {
  try {
    return matcherOf(pattern);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new Problem("autodiscover", `receive.redirects cannot be used: ${why}`, { retry: "never", cause: error });
  }
}
