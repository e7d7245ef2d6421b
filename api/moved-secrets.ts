/** Refuses a change that would send a stored secret to another place than the one it was given for. */
import { splitLogin } from "../shared/contract/endpoint.ts";
import type { Mailbox } from "../shared/contract/mailbox.ts";
import { Problem } from "../shared/contract/problem.ts";
import { listMovedSecrets } from "../shared/places.ts";
import { isRecord } from "./http/field-errors.ts";

/**
 * Throws `secret_needed`, naming the fields, if `after` would send a stored secret of `before` to another server, port,
 * account or token URL, or with weaker TLS, and `body` does not contain that secret.
 */
export function checkSecretsStay(before: Mailbox, after: Mailbox, body: unknown): void {
  const moved = listMovedSecrets(before, after, (path) => isGiven(body, path));
  if (moved.length > 0) throw secretNeededProblem(moved);
}

/** The problem of a request that lacks these secrets, by their dotted paths. */
export function secretNeededProblem(paths: readonly string[]): Problem {
  const message = "must be given again: the stored one belongs to another server, port, account or TLS setting";
  const errors = paths.map((path) => ({ path, message }));
  return new Problem("secret_needed", `${paths.join(", ")} ${message}.`, { retry: "never", errors });
}

/** The login at the endpoint may stand in its URL. */
function isGiven(body: unknown, path: string): boolean {
  if (hasText(body, path.split("."))) return true;
  const deliver = isRecord(body) ? body["deliver"] : undefined;
  const url = isRecord(deliver) ? deliver["url"] : undefined;
  if (path !== "deliver.auth.password" || typeof url !== "string" || !URL.canParse(url)) return false;
  return splitLogin(url).login !== undefined;
}

function hasText(value: unknown, [name, ...deeper]: readonly string[]): boolean {
  if (name === undefined) return typeof value === "string";
  return isRecord(value) && hasText(value[name], deeper);
}
