/** JSON merge patch (RFC 7396), and the one liberty taken with it for credentials. */
import { Problem } from "../shared/contract/problem.ts";
import { isRecord } from "./fields.ts";

/** A mailbox is four levels deep; what is deeper cannot be valid and must not exhaust the stack. */
const DEEPEST = 16;

/** `target` with `patch` applied: members are replaced, null removes, what is absent stays. Neither argument changes. */
export function merged(target: unknown, patch: unknown, depth = 0): unknown {
  if (depth > DEEPEST) throw new Problem("invalid", "The patch is nested too deeply.", { retry: "never" });
  if (!isRecord(patch)) return patch;
  // A Map and fromEntries, because assigning to a member named __proto__ would do something else.
  const members = new Map(Object.entries(isRecord(target) ? target : {}));
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) members.delete(name);
    else members.set(name, merged(members.get(name), value, depth + 1));
  }
  return Object.fromEntries(members);
}

const CREDENTIALS = ["password", "accessToken", "oauth2"];

/** A patch that gives another kind of credential replaces the one before, without a null for it. */
export function replacingCredentials(patch: Record<string, unknown>): Record<string, unknown> {
  const receive = patch["receive"];
  const auth = isRecord(receive) ? receive["auth"] : undefined;
  if (!isRecord(receive) || !isRecord(auth)) return patch;
  if (!CREDENTIALS.some((name) => name in auth && auth[name] !== null)) return patch;
  const none = Object.fromEntries(CREDENTIALS.map((name) => [name, null]));
  return { ...patch, receive: { ...receive, auth: { ...none, ...auth } } };
}
