/** The record of every change by the API: it is begun before the change and completed after it, so a crash hides none. */
import { asProblem, type ProblemCode, PROBLEMS } from "../../shared/contract/problem.ts";
import type { Actor, AuditEntry } from "../../shared/contract/token.ts";
import type { Store } from "../../shared/store/store.ts";
import type { Facts } from "../../shared/telemetry/events.ts";
import { clock } from "../../shared/time.ts";
import { isRecord } from "./field-errors.ts";

/** What is known about a change before it is made. `partial`: a part of it may be made although the rest is refused. */
export type ChangeStart = Pick<AuditEntry, "method" | "route" | "target" | "mailbox" | "changed"> & {
  partial?: boolean;
};
/** What the handler of a change knows better. */
export type ChangeNote = Partial<Pick<AuditEntry, "target" | "mailbox" | "changed">>;

type AuditDeps = { store: Pick<Store, "audit">; facts: Pick<Facts, "emit"> };

/** With these problems nothing was changed. */
const REFUSALS: ReadonlySet<ProblemCode> = new Set([
  "not_found",
  "conflict",
  "precondition",
  "invalid",
  "secret_needed",
  "scope",
]);

/**
 * Does the work of a change and records who made it. Rejects with `store`, before any work, if the record cannot be
 * begun. A refused change leaves no record.
 */
export async function auditChange(
  { store, facts }: AuditDeps,
  { id, name }: Pick<Actor, "id" | "name">,
  { partial = false, ...start }: ChangeStart,
  work: (note: (more: ChangeNote) => void) => Promise<Response>,
): Promise<Response> {
  const at = new Date(clock.now()).toISOString();
  const begun: AuditEntry = { id: store.audit.nextId(), at, actor: { id, name }, ...start, status: null };
  await store.audit.put(begun);
  let known = begun;
  const finish = async (status: number) => {
    const { mailbox, id: _id, at: _at, ...entry } = { ...known, status };
    facts.emit({ kind: "api.changed", ...entry, ...(mailbox !== null && { mailbox }) });
    await settle(store.audit.put({ ...known, status }));
  };
  // The change is made, so the answer must say that. The fact is in the log in any case.
  const settle = (writing: Promise<void>) =>
    writing.catch((error: unknown) => {
      const { code, message } = asProblem(error);
      facts.emit({ kind: "service.failed", what: "completing the audit", failure: { code, cause: message } });
    });
  try {
    const response = await work((more) => (known = { ...known, ...more }));
    await finish(response.status);
    return response;
  } catch (error) {
    const { code } = asProblem(error);
    if (REFUSALS.has(code) && !partial) await settle(store.audit.remove(begun));
    else await finish(PROBLEMS[code].status);
    throw error;
  }
}

const MAX_NAMES = 100;
const NAME = /^[A-Za-z0-9_.-]{1,100}$/;

/** The dotted names of the fields that a body has, without their values. */
export function fieldNames(body: unknown): string[] {
  const names = [...new Set(namesIn(body, ""))];
  return names.map((name) => (NAME.test(name) ? name : "(other)")).slice(0, MAX_NAMES);
}

function namesIn(value: unknown, path: string): string[] {
  if (Array.isArray(value) && value.some(isRecord)) return value.flatMap((item) => namesIn(item, path));
  if (!isRecord(value)) return path === "" ? [] : [path];
  return Object.entries(value)
    .filter(([, inner]) => inner !== undefined)
    .flatMap(([name, inner]) => namesIn(inner, path === "" ? name : `${path}.${name}`));
}

/** The names of the fields in which two values differ. The values must not hide anything from JSON. */
export function differingFields(before: unknown, after: unknown, path = ""): string[] {
  if (JSON.stringify(before) === JSON.stringify(after)) return [];
  if (!isRecord(before) || !isRecord(after)) return [path];
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])];
  return names.flatMap((name) => differingFields(before[name], after[name], path === "" ? name : `${path}.${name}`));
}
