/** GET /api/v1/events: the facts of this node as they happen, as server-sent events. */
import * as v from "valibot";
import type { ApiDeps } from "../deps.ts";
import type { Fact } from "../../shared/telemetry/events.ts";
import { currentFactKind } from "../../shared/telemetry/stored-facts.ts";
import { eventStream } from "../http/event-stream.ts";
import type { StreamSeats } from "../http/stream-seats.ts";
import { route, type Route } from "../http/route.ts";

const Query = v.strictObject({
  mailbox: v.optional(v.pipe(v.string(), v.description("Only facts about this mailbox."))),
  kind: v.optional(
    v.pipe(v.string(), v.description("Only these kinds, separated by commas: `mail.delivered,mail.parked`.")),
  ),
});

/** `seats` are those of all callers, whichever mailboxes they see. */
export function eventRoutes({ facts }: Pick<ApiDeps, "facts">, seats: StreamSeats, stop: AbortSignal): Route[] {
  return [
    route({
      method: "get",
      path: "/api/v1/events",
      tag: "Operation",
      scope: "read",
      summary: "Watch what happens",
      description:
        "Server-sent events: `event` is the kind of the fact, `data` is the fact as JSON. A comment every 15 seconds keeps the connection alive. " +
        "Facts about HTTP requests come only if `kind` names them. The service disconnects a client that reads too slowly, and one token may have 20 streams at the same time. After a new connection nothing is repeated. " +
        "The stream ends within five seconds after its token was revoked or has expired. A token that is bound to a prefix gets only facts about its mailboxes.",
      query: Query,
      responses: { 200: { description: "The stream", type: "text/event-stream" } },
      problems: ["streams"],
      handle({ query, request, caller }) {
        const headers = {
          "content-type": "text/event-stream; charset=utf-8",
          "cache-control": "no-store",
          "x-accel-buffering": "no",
        };
        // A HEAD also calls this handler, but nobody would read or cancel its stream.
        if (request.method === "HEAD") return new Response(null, { headers });
        const signal = AbortSignal.any([request.signal, stop]);
        const { untilRevoked, actor } = caller;
        const options = { accepts: factFilter(query), untilRevoked, seat: seats.take(actor.id) };
        return new Response(eventStream(facts, options, signal), { headers });
      },
    }),
  ];
}

function factFilter({ mailbox, kind }: v.InferOutput<typeof Query>): (fact: Fact) => boolean {
  const kinds = new Set(kind?.split(",").map((name) => currentFactKind(name.trim())));
  return (fact) => {
    if (mailbox !== undefined && !("mailbox" in fact && fact.mailbox === mailbox)) return false;
    return kind === undefined ? fact.kind !== "http.answered" : kinds.has(fact.kind);
  };
}
