/** /mailboxes/{id}/edit: changes a mailbox by PATCH, and pauses or resumes it. Works without any script. */
import type { Mailbox } from "../../../../shared/contract/mailbox.ts";
import { asProblem, type ProblemCode } from "../../../../shared/contract/problem.ts";
import type { Route } from "../../../http/route.ts";
import { editBody, type EditField, editFields, editSecrets, editValues } from "../../../pages/console/actions/edit.ts";
import { queryOf } from "../../../pages/console/parts.ts";
import { getMailbox } from "../../mailboxes.ts";
import { action, type ConsoleCall, type ConsoleDeps, page, seeOther } from "../page.ts";

/** Problems that a person solves in the form. */
const REFUSALS: ReadonlySet<ProblemCode> = new Set(["invalid", "secret_needed", "precondition", "conflict"]);

export function editRoutes(deps: ConsoleDeps): Route[] {
  return [
    page(deps, "/mailboxes/{id}/edit", async (call) => {
      const { mailbox } = await getMailbox(call.deps.store, call.id);
      return show(call, mailbox, editValues(mailbox));
    }),
    action(deps, "/mailboxes/{id}/edit", save),
  ];
}

function show(call: ConsoleCall, mailbox: Mailbox, values: Record<string, string>, error?: unknown) {
  const { message: cause, fix, errors } = asProblem(error ?? "");
  const problem = error === undefined ? undefined : { cause, fix, errors };
  const status = error === undefined ? 200 : 422;
  const body = editBody({ base: call.base, mailbox, values, problem, may: call.may("manage") });
  return call.render({ title: `Edit ${mailbox.address}`, status, body });
}

async function save(call: ConsoleCall): Promise<Response> {
  const { mailbox } = await getMailbox(call.deps.store, call.id);
  const path = `/api/v1/mailboxes/${encodeURIComponent(call.id)}`;
  const given = Object.fromEntries(editFields(mailbox).map((field) => [field.path, valueOf(call, field)]));
  const before = editValues(mailbox);
  const changed = editFields(mailbox).filter(
    (field) => field.path !== "paused" && given[field.path] !== before[field.path],
  );
  const secrets = editSecrets(mailbox).filter((one) => (call.form.get(one.path) ?? "") !== "");
  const patch = nested([
    ...changed.map((field) => [field.path, toJson(field, given[field.path] ?? "")] as const),
    ...secrets.map((one) => [one.path, call.form.get(one.path)] as const),
  ]);
  try {
    // The revision of the form, so that what somebody else changed meanwhile is not overwritten.
    const ifMatch = { "if-match": `"${call.form.get("revision") ?? ""}"` };
    if (changed.length + secrets.length > 0) await call.api("PATCH", path, patch, ifMatch);
    const isPaused = given["paused"] === "on";
    if (isPaused !== mailbox.paused) await call.api("POST", `${path}/${isPaused ? "pause" : "resume"}`);
  } catch (error) {
    if (!REFUSALS.has(asProblem(error).code)) throw error;
    return show(call, mailbox, given, error);
  }
  return seeOther(`${call.base}/mailboxes/${encodeURIComponent(call.id)}${queryOf({ done: "edit" })}`);
}

/** As `editValues` writes it. */
function valueOf({ form }: ConsoleCall, { path, kind }: EditField): string {
  const text = (form.get(path) ?? "").trim();
  return kind === "lines" ? linesOf(text).join("\n") : text;
}

function linesOf(text: string): string[] {
  return text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");
}

/** An empty field removes its member, and the default holds again. A number that is none is for the API to refuse. */
function toJson({ kind }: EditField, text: string): unknown {
  if (text === "") return null;
  if (kind === "number") return Number.isNaN(Number(text)) ? text : Number(text);
  if (kind !== "lines") return text;
  return text === "all" ? "all" : linesOf(text);
}

/** An object with these members, by their dotted paths. */
function nested(members: readonly (readonly [path: string, value: unknown])[]): Record<string, unknown> {
  const groups = Map.groupBy(members, ([path]) => path.split(".", 1)[0] ?? "");
  const entries = [...groups].map(([name, group]) => {
    const [[path = "", value] = []] = group;
    if (path === name) return [name, value] as const;
    return [name, nested(group.map(([whole, inner]) => [whole.slice(name.length + 1), inner] as const))] as const;
  });
  return Object.fromEntries(entries);
}
