/** /api/v1/mailboxes/{id}/move-to-graph: from Exchange Web Services to Microsoft Graph, with the cursors kept. */
import { MAIL_PROBLEMS } from "../http/mail-problems.ts";
import { jsonResponse, route, type Route } from "../http/route.ts";
import { MoveBody, MoveReport, moveToGraph } from "../move-to-graph.ts";
import type { ScopedDeps } from "../scoped-deps.ts";

type MoveRouteDeps = Pick<ScopedDeps, "store" | "facts" | "subscriptions" | "mail" | "outbound" | "mailboxPrefix">;

export function moveRoutes(deps: MoveRouteDeps): Route[] {
  return [
    route({
      method: "post",
      path: "/api/v1/mailboxes/{id}/move-to-graph",
      tag: "Mailboxes",
      scope: "manage",
      summary: "Move a mailbox from Exchange Web Services to Microsoft Graph",
      description:
        "For mailboxes in Exchange Online. Each step is tried at Graph first; the report says for each folder what would be new. If every step passes and it is no dry run, the mailbox is received by Graph from then on: " +
        "nothing is lost, and nothing is delivered twice. The application needs User.Read.All until then, to translate ids. `back` goes back, as long as Graph has handed over nothing.",
      body: MoveBody,
      responses: { 200: { description: "The report, whether or not every step passed", schema: MoveReport } },
      problems: ["not_found", "conflict", ...MAIL_PROBLEMS],
      async handle({ id, body, note, signal }) {
        note({ changed: ["receive"] });
        return jsonResponse(await moveToGraph(deps, id, body, signal));
      },
    }),
  ];
}
