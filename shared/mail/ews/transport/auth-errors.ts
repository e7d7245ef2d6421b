/** Problems for refused logins to Exchange, with words that say what to check. */
import type { IncomingHttpHeaders } from "node:http";
import type { Evidence } from "../../../contract/evidence.ts";
import { Problem } from "../../../contract/problem.ts";
import { quoteWords } from "../../../evidence/evidence.ts";
import { toDiagnosticsCode } from "../soap/errors.ts";
import type { Scheme } from "../../http/connection-pool.ts";

/** A 401 for a request with a token. A new token may replace it. */
export class RefusedToken extends Problem {
  readonly token: string;
  constructor(token: string, headers: IncomingHttpHeaders) {
    super("auth", "The server refused the OAuth2 token", { evidence: describeChallenge(headers) });
    this.token = token;
  }
}

/** A 401 for a request with a password. Only a person can replace it. */
export function refusedPasswordProblem(headers: IncomingHttpHeaders): Problem {
  const evidence = describeChallenge(headers);
  const cause = "The server refused user name or password. The password may have expired, or the account may be locked";
  return new Problem("auth", cause, { retry: "never", evidence });
}

/** The server offers no authentication scheme that is allowed for this password. */
export function authMethodProblem(scheme: Scheme | undefined, headers: IncomingHttpHeaders): Problem {
  const cause = scheme === "ntlm" ? "The server does not offer NTLM" : "The server offers neither NTLM nor basic login";
  return new Problem("auth_method", cause, { retry: "never", evidence: describeChallenge(headers) });
}

/** A 401 for a request that carried no password: the server did not say which kind of authentication it wants. */
export function noLoginOfferedProblem(headers: IncomingHttpHeaders): Problem {
  const cause = "The server requires a login, but did not say which kind; it may be starting or overloaded";
  return new Problem("unavailable", cause, { evidence: describeChallenge(headers) });
}

const SCHEMES = new Set(["basic", "bearer", "digest", "kerberos", "negotiate", "ntlm"]);

/** The known schemes that the server offers, and the number of Exchange's own diagnosis. */
function describeChallenge(headers: IncomingHttpHeaders): Evidence {
  const offered = [...(headers["www-authenticate"] ?? "").matchAll(/(?:^|,)\s*([A-Za-z]+)(?=[\s,]|$)/g)];
  const known = offered.map(([, name = ""]) => name).filter((name) => SCHEMES.has(name.toLowerCase()));
  const words = ["401", ...(known.length > 0 ? [`offers ${known.join(", ")}`] : []), ...toDiagnosticsCode(headers)];
  return quoteWords(words.join("; "), { secrets: [] });
}
