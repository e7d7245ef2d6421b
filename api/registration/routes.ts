/** POST /api/v1/mailboxes:import: thousands of mailboxes in one request. */
import { MailboxInput } from "../../shared/contract/mailbox.ts";
import { checkContentType } from "../http/body.ts";
import { route, type Route } from "../http/route.ts";
import { importMailboxes, ImportResult, MAX_LINES } from "./import.ts";
import { readLines } from "./lines.ts";
import type { SaveMailboxDeps } from "./save.ts";

const LINES = "application/x-ndjson";
const IMPORT_MS = 1_800_000;

export function importRoutes(deps: SaveMailboxDeps): Route[] {
  return [
    route({
      method: "post",
      path: "/api/v1/mailboxes:import",
      tag: "Mailboxes",
      scope: "manage",
      summary: "Register many mailboxes",
      description:
        `Each line of the body is a mailbox with its \`id\`, as POST takes it; at most ${MAX_LINES} lines. The answer has one line for each, in the same order, ` +
        "while the body still comes. A line is stored durably before its answer. A line that is refused leaves the others alone. " +
        "An id that exists is replaced as by PUT. If the mailbox is as the line says already, it stays `unchanged`, so the same file can be sent again.",
      lines: { type: LINES, schema: MailboxInput },
      audited: false,
      responses: { 200: { description: "One line for each line of the body", type: LINES, schema: ImportResult } },
      problems: [],
      handle({ request, caller, signal }) {
        checkContentType(request, [LINES]);
        const gone = new AbortController();
        const until = AbortSignal.any([signal(IMPORT_MS), gone.signal]);
        const lines = request.body ? readLines(request.body, until) : nothing();
        const encoder = new TextEncoder();
        // The results do not wait for the client to read them: many clients read only when they have sent everything.
        const answer = new ReadableStream<Uint8Array>({
          async start(controller) {
            const tell = (result: ImportResult) => {
              if (!gone.signal.aborted) controller.enqueue(encoder.encode(`${JSON.stringify(result)}\n`));
            };
            await importMailboxes(deps, lines, { audit: caller.audit, tell });
            if (!gone.signal.aborted) controller.close();
          },
          cancel: () => gone.abort(new DOMException("The client went away", "AbortError")),
        });
        return new Response(answer, { headers: { "content-type": LINES, "cache-control": "no-store" } });
      },
    }),
  ];
}

async function* nothing() {}
