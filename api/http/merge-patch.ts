/** JSON merge patch (RFC 7396), and the one liberty taken with it: of members that exclude each other the new one is meant. */
import { Problem } from "../../shared/contract/problem.ts";
import { isRecord } from "./field-errors.ts";

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

const LOGIN = { kinds: ["password", "accessToken", "oauth2"] };

/** Members below `receive` of which another one takes the place of the one before. */
const ALTERNATIVES: Record<string, { kinds: string[]; with?: string[] }> = {
  auth: LOGIN,
  poll: { kinds: ["everySeconds", "cron"], with: ["timeZone"] },
  afterDelivery: { kinds: ["move", "keyword", "deleteAfterDays"] },
};

/** A patch that gives another kind of credential, schedule or treatment replaces the one before, without a null for it. */
export function replacingCredentials(patch: Record<string, unknown>): Record<string, unknown> {
  const { receive, send } = patch;
  const sending = isRecord(send)
    ? { send: { ...send, ...("auth" in send && { auth: replacing(send["auth"], LOGIN) }) } }
    : {};
  if (!isRecord(receive)) return { ...patch, ...sending };
  const replaced = Object.entries(ALTERNATIVES).map(
    ([name, members]) => [name, replacing(receive[name], members)] as const,
  );
  return {
    ...patch,
    ...sending,
    receive: { ...receive, ...Object.fromEntries(replaced.filter(([name]) => name in receive)) },
  };
}

function replacing(value: unknown, members: { kinds: string[]; with?: string[] }): unknown {
  if (!isRecord(value) || !members.kinds.some((name) => name in value && value[name] !== null)) return value;
  return { ...Object.fromEntries([...members.kinds, ...(members.with ?? [])].map((name) => [name, null])), ...value };
}
