/**
 * JSON merge patch (RFC 7396), with one difference: if a patch sets one of several members that exclude each other, the
 * others go.
 */
import { Problem } from "../../shared/contract/problem.ts";
import { isRecord } from "./field-errors.ts";

/** A mailbox is four levels deep. Deeper input cannot be valid, and it must not exhaust the stack. */
const MAX_DEPTH = 16;

/** `target` with `patch` applied: members are replaced, null removes, absent members stay. Neither argument changes. */
export function mergePatch(target: unknown, patch: unknown, depth = 0): unknown {
  if (depth > MAX_DEPTH) throw new Problem("invalid", "The patch has too many nested levels.", { retry: "never" });
  if (!isRecord(patch)) return patch;
  // A Map and fromEntries, because an assignment to a member named __proto__ would do something else.
  const members = new Map(Object.entries(isRecord(target) ? target : {}));
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) members.delete(name);
    else members.set(name, mergePatch(members.get(name), value, depth + 1));
  }
  return Object.fromEntries(members);
}

const CREDENTIALS = { kinds: ["password", "accessToken", "oauth2", "application"] };

/** Members below `receive` that replace each other. */
const ALTERNATIVES: Record<string, { kinds: string[]; with?: string[] }> = {
  auth: CREDENTIALS,
  poll: { kinds: ["everySeconds", "cron"], with: ["timeZone"] },
  afterDelivery: { kinds: ["move", "keyword", "deleteAfterDays"] },
};

/** A patch with another kind of credential, schedule or action replaces the old one, without a null for it. */
export function replaceAlternatives(patch: Record<string, unknown>): Record<string, unknown> {
  const { receive, send } = patch;
  const patchedSend = isRecord(send)
    ? { send: { ...send, ...("auth" in send && { auth: clearAlternatives(send["auth"], CREDENTIALS) }) } }
    : {};
  if (!isRecord(receive)) return { ...patch, ...patchedSend };
  const patchedReceive = Object.entries(ALTERNATIVES).map(
    ([name, members]) => [name, clearAlternatives(receive[name], members)] as const,
  );
  return {
    ...patch,
    ...patchedSend,
    receive: { ...receive, ...Object.fromEntries(patchedReceive.filter(([name]) => name in receive)) },
  };
}

function clearAlternatives(value: unknown, members: { kinds: string[]; with?: string[] }): unknown {
  if (!isRecord(value) || !members.kinds.some((name) => name in value && value[name] !== null)) return value;
  return { ...Object.fromEntries([...members.kinds, ...(members.with ?? [])].map((name) => [name, null])), ...value };
}
