/** A refused login to Exchange, in words that say what to look at. */
import type { IncomingHttpHeaders } from "node:http";
import { Problem } from "../../../contract/problem.ts";
import { withoutSecrets } from "../../problems.ts";
import type { Scheme } from "../lines.ts";

/** A 401 for credentials that were shown. A refused token may be replaced by a new one, a password only by a person. */
export function loginProblem(headers: IncomingHttpHeaders, shown: "password" | "token"): Problem {
  const evidence = saidBy(headers);
  if (shown === "token") return new Problem("auth", "The server refused the OAuth2 token", { evidence });
  const cause = "The server refused user name or password; the password may have expired, or the account be locked";
  return new Problem("auth", cause, { retry: "never", evidence });
}

/** The server offers no way to show a password that is allowed here. */
export function methodProblem(scheme: Scheme | undefined, headers: IncomingHttpHeaders): Problem {
  const wanted =
    scheme === "ntlm" ? "The server does not offer NTLM" : "The server offers neither NTLM nor basic login";
  return new Problem("auth_method", wanted, { retry: "never", evidence: saidBy(headers) });
}

/** The schemes offered, without challenges, and Exchange's own diagnosis. */
function saidBy(headers: IncomingHttpHeaders): string {
  const offered = [...(headers["www-authenticate"] ?? "").matchAll(/(?:^|,)\s*([A-Za-z]+)(?=[\s,]|$)/g)].map(
    ([, name]) => name,
  );
  const diagnosis = headers["x-ms-diagnostics"];
  const words = [
    "401",
    offered.length > 0 && `offers ${offered.join(", ")}`,
    typeof diagnosis === "string" && diagnosis,
  ];
  return withoutSecrets(words.filter(Boolean).join("; "), []);
}

/** The problem with nothing of the login in its evidence: a server may repeat what it was shown. */
export function withoutLogin(error: unknown, secrets: readonly string[]): unknown {
  if (!(error instanceof Problem) || error.evidence === null) return error;
  const evidence = withoutSecrets(error.evidence, secrets);
  if (evidence === error.evidence) return error;
  const { code, message, retry, errors, cause } = error;
  return new Problem(code, message, { retry, errors, cause, evidence });
}
