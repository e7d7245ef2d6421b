/**
 * Which hosts may see a mailbox's credentials: hosts of its own domain, and those that its client allowed with a
 * regular expression.
 */
import { Problem } from "../../../contract/problem.ts";
import { type Matcher, compilePattern } from "./pattern.ts";

/** True for a URL that may get the mailbox's credentials. */
export type IsAllowed = (url: URL) => boolean;

/** A longer URL matches nothing. */
const MAX_URL_LENGTH = 2048;

/** The rule for a domain and a pattern. It allows only HTTPS. Throws `autodiscover` for an invalid pattern. */
export function redirectFilter(domain: string, pattern: string | undefined): IsAllowed {
  const matches = pattern === undefined || pattern === "" ? () => false : compile(pattern);
  return (url) => {
    if (url.protocol !== "https:" || url.username !== "" || url.password !== "") return false;
    return isInDomain(domain, url.hostname) || (url.href.length <= MAX_URL_LENGTH && matches(url.href));
  };
}

/** True for the domain itself and every host below it. */
function isInDomain(domain: string, host: string): boolean {
  const own = domain.toLowerCase();
  return host.toLowerCase() === own || host.toLowerCase().endsWith(`.${own}`);
}

function compile(pattern: string): Matcher {
  try {
    return compilePattern(pattern);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new Problem("autodiscover", `receive.redirects cannot be used: ${why}`, { retry: "never", cause: error });
  }
}
