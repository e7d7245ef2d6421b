/** Registers many mailboxes, one for each line. A line that is refused leaves the others alone. */
import * as v from "valibot";
import { keyedSemaphore } from "../../shared/concurrency/keyed-semaphore.ts";
import { semaphore } from "../../shared/concurrency/semaphore.ts";
import { MailboxInput } from "../../shared/contract/mailbox.ts";
import { asProblem, Problem } from "../../shared/contract/problem.ts";
import { invalidField } from "../applications.ts";
import { removeIfClosed } from "../closed-mailboxes.ts";
import { fieldNames } from "../http/audit-trail.ts";
import { parseJson } from "../http/body.ts";
import { isRecord } from "../http/field-errors.ts";
import { notFound } from "../http/problems.ts";
import { type Caller, parseInput } from "../http/route.ts";
import { listChanges, mailboxFromInput } from "../mailboxes.ts";
import { type Line, MAX_LINE_BYTES } from "./lines.ts";
import { changeMailbox, createMailbox, type SaveMailboxDeps } from "./save.ts";

const base = { line: v.number(), id: v.nullable(v.string()) };

/** What became of a line. It is durable. */
export const ImportResult = v.variant("result", [
  v.object({
    ...base,
    result: v.picklist(["created", "updated", "unchanged"]),
    revision: v.number(),
    secret: v.exactOptional(v.string()),
  }),
  v.object({
    ...base,
    result: v.literal("refused"),
    code: v.string(),
    cause: v.string(),
    fix: v.string(),
    errors: v.array(v.object({ path: v.string(), message: v.string() })),
  }),
]);
export type ImportResult = v.InferOutput<typeof ImportResult>;
type Saved = Omit<Extract<ImportResult, { revision: number }>, "line" | "id">;

/** Lines that are worked on at once. They share their waits for the disk. */
const AT_ONCE = 64;
export const MAX_LINES = 50_000;

/**
 * Handles the lines as they come and tells each result, in the order of the lines. What was told has happened, also if
 * the rest fails. Lines about one mailbox are handled one after the other. Resolves after the last result; if the lines
 * end in an error, that is the result of the line after them.
 */
export async function importMailboxes(
  deps: SaveMailboxDeps,
  lines: AsyncIterable<Line>,
  { audit, tell }: { audit: Caller["audit"]; tell: (result: ImportResult) => void },
): Promise<void> {
  const room = semaphore(AT_ONCE);
  const turns = keyedSemaphore(1);
  let told = Promise.resolve();
  let last = 0;
  const tellNext = (result: Promise<ImportResult>) => {
    told = told.then(async () => tell(await result));
  };
  try {
    for await (const line of lines) {
      last = line.number;
      if (line.text?.trim() === "") continue;
      if (line.number > MAX_LINES) throw tooManyProblem();
      const permit = await room.acquire({});
      tellNext(importLine({ ...deps, turns, audit }, line).finally(permit.release));
    }
  } catch (error) {
    tellNext(Promise.resolve(refusal(error instanceof Problem ? last : last + 1, null, error)));
  }
  await told;
}

type LineDeps = SaveMailboxDeps & { turns: ReturnType<typeof keyedSemaphore>; audit: Caller["audit"] };

async function importLine(deps: LineDeps, { number: line, text }: Line): Promise<ImportResult> {
  let id: string | null = null;
  try {
    const body = parseLine(text);
    if (typeof body["id"] === "string") id = body["id"];
    const input = parseInput(MailboxInput, body);
    if (input.id === undefined) throw invalidField("id", "must be given, so that the line can be imported again");
    if (!input.id.startsWith(deps.mailboxPrefix)) throw notFound("mailbox", input.id);
    using _ = await deps.turns.acquire(input.id, {});
    return { line, id, ...(await saveLine(deps, { ...input, id: input.id }, body)) };
  } catch (error) {
    return refusal(line, id, error);
  }
}

function parseLine(text: string | undefined): Record<string, unknown> {
  if (text === undefined)
    throw new Problem("too_large", `The line has more than ${MAX_LINE_BYTES} bytes.`, { retry: "never" });
  const value = parseText(text);
  if (isRecord(value) && !Array.isArray(value)) return value;
  const errors = [{ path: "", message: "must be an object" }];
  throw new Problem("invalid", "Not valid: the line must be an object", { retry: "never", errors });
}

function parseText(text: string): unknown {
  try {
    return parseJson(text);
  } catch {
    throw new Problem("malformed", "The line is not valid JSON.", { retry: "never" });
  }
}

/** As PUT does it, but a mailbox that is as the line says already stays as it is, and its subscription goes on. */
async function saveLine(deps: LineDeps, input: MailboxInput & { id: string }, body: unknown): Promise<Saved> {
  const { id } = input;
  await removeIfClosed(deps, id);
  const previous = await deps.store.mailboxes.get(id);
  if (previous && listChanges(previous.mailbox, mailboxFromInput(input, previous.mailbox).mailbox).length === 0)
    return { result: "unchanged", revision: previous.mailbox.revision };
  let saved: Saved | undefined;
  const change = { method: "POST", route: "/api/v1/mailboxes:import", target: id, mailbox: id };
  await deps.audit({ ...change, changed: fieldNames(body) }, async (note) => {
    const { stored, generated } = previous
      ? await changeMailbox(deps, previous, input, { body, note })
      : await createMailbox(deps, input);
    saved = {
      result: previous ? "updated" : "created",
      revision: stored.revision,
      ...(generated && { secret: generated.reveal() }),
    };
    return new Response(null, { status: previous ? 200 : 201 });
  });
  if (!saved) throw new Problem("internal", "A line of an import was not saved");
  return saved;
}

function refusal(line: number, id: string | null, error: unknown): ImportResult {
  const problem = asProblem(error);
  const { code, fix, errors } = problem;
  const cause = code === "internal" ? "The line failed. The log of this node has the reason." : problem.message;
  return { line, id, result: "refused", code, cause, fix, errors };
}

function tooManyProblem(): Problem {
  const message = `An import has at most ${MAX_LINES} lines. Send the rest in another one.`;
  return new Problem("too_large", message, { retry: "never" });
}
