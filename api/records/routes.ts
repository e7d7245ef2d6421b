/** /api/v1/mailboxes/{id}/record: what is said with the mail servers of a mailbox, for 15 minutes. */
import * as v from "valibot";
import { beginRecord, endRecord, readRecord, RECORD_MS } from "../../shared/record/stored.ts";
import type { Store } from "../../shared/store/store.ts";
import { notFound } from "../http/problems.ts";
import { jsonResponse, route, type Route } from "../http/route.ts";
import type { ScopedDeps } from "../scoped-deps.ts";

/** `all` has the documents, which a token with a prefix does not see. */
export type RecordRoutesDeps = Pick<ScopedDeps, "store"> & { all: Pick<Store, "documents"> };

const tag = "Mailboxes";
const PATH = "/api/v1/mailboxes/{id}/record";

export const RecordView = v.object({
  startedAt: v.pipe(v.string(), v.description("When the record began.")),
  until: v.pipe(v.string(), v.description("It ends by itself then.")),
});

export function recordRoutes(deps: RecordRoutesDeps): Route[] {
  return [begin(deps), end(deps), download(deps)];
}

async function checkIsThere({ store }: RecordRoutesDeps, id: string): Promise<void> {
  if (!(await store.mailboxes.get(id))) throw notFound("mailbox", id);
}

function begin(deps: RecordRoutesDeps): Route {
  return route({
    method: "post",
    path: PATH,
    tag,
    scope: "manage",
    summary: "Record what is said with the mail servers",
    description:
      `For ${RECORD_MS / 60_000} minutes all nodes write down each command, request and answer of this mailbox by IMAP, POP3, SMTP, Exchange Web Services and Microsoft Graph. Passwords, tokens and everything of a login are hidden. ` +
      "Of messages and other long values there is only the size. It has at most 256 KB; then the oldest lines go. An earlier record of the mailbox is deleted. At most ten records are on at once.",
    responses: { 200: { description: "It is on", schema: RecordView } },
    problems: ["not_found", "conflict"],
    async handle({ id }) {
      await checkIsThere(deps, id);
      const { startedAt, until } = await beginRecord(deps.all, id);
      return jsonResponse({ startedAt, until });
    },
  });
}

function end(deps: RecordRoutesDeps): Route {
  return route({
    method: "post",
    path: `${PATH}/stop`,
    tag,
    scope: "manage",
    summary: "Stop the record",
    description: "What was recorded stays for a day.",
    responses: { 204: { description: "It is off", type: null } },
    problems: ["not_found"],
    async handle({ id }) {
      await checkIsThere(deps, id);
      if (!(await endRecord(deps.all, id))) throw notFound("record of the mailbox", id);
      return new Response(null, { status: 204 });
    },
  });
}

function download(deps: RecordRoutesDeps): Route {
  return route({
    method: "get",
    path: PATH,
    tag,
    scope: "read",
    summary: "Read the record",
    description:
      "One line for each command and answer: the time, the node, the connection, and `C:` for the service or `S:` for the server. Of a request by Exchange Web Services or Graph there are lines with its number: " +
      "the method, the URL and its head; the body, shortened; the status, the time and the head of the answer; its body, shortened; its size. Also while it is on; the newest lines come a second late.",
    responses: { 200: { description: "The record", type: "text/plain", schema: v.string() } },
    problems: ["not_found"],
    async handle({ id }) {
      await checkIsThere(deps, id);
      const record = await readRecord(deps.all, id);
      if (!record) throw notFound("record of the mailbox", id);
      const { startedAt, until, text } = record;
      const head = `Protocol record of the mailbox ${id}, ${startedAt} to ${until}\n`;
      const headers = {
        "content-type": "text/plain; charset=utf-8",
        "content-disposition": `attachment; filename="record-${id}.txt"`,
        "cache-control": "no-store",
        "record-until": until,
      };
      return new Response(head + text, { headers });
    },
  });
}
