/** GET /api/v1/audit: who changed what by the API. */
import * as v from "valibot";
import { AuditEntry } from "../../shared/contract/token.ts";
import { Problem } from "../../shared/contract/problem.ts";
import type { ApiDeps } from "../deps.ts";
import { pageOf, pageQuery } from "../http/paging.ts";
import { jsonResponse, route, type Route } from "../http/route.ts";

const Query = v.strictObject({
  ...pageQuery,
  mailbox: v.exactOptional(v.string()),
  actor: v.exactOptional(v.pipe(v.string(), v.description("The id of a token, or `API_TOKENS#1`, or `crm`."))),
});

export function auditRoutes({ store }: Pick<ApiDeps, "store">): Route[] {
  return [
    route({
      method: "get",
      path: "/api/v1/audit",
      tag: "Tokens",
      scope: "admin",
      summary: "List who changed what",
      description:
        "Newest first, for 90 days, the newest 2,000 of each actor. `changed` has names of fields and no values. `status` is null for a change whose node ended meanwhile: nobody knows whether it was made. Refused requests are not listed. Sendings are not listed either: the mailbox's facts `send.queued` name their actor.",
      query: Query,
      responses: { 200: { description: "A page of changes", schema: pageOf(AuditEntry) } },
      problems: [],
      async handle({ query }) {
        if (query.mailbox !== undefined && query.actor !== undefined) throw oneFilterProblem();
        return jsonResponse(await store.audit.list(query));
      },
    }),
  ];
}

function oneFilterProblem(): Problem {
  const message = "cannot be used together with mailbox";
  const errors = [{ path: "actor", message }];
  return new Problem("invalid", `Not valid: actor ${message}.`, { retry: "never", errors });
}
