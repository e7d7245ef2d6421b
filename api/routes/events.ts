/** GET /api/v1/events: the facts of this node as they happen, as server-sent events. */
import * as v from "valibot";
import type { ApiDeps } from "../deps.ts";
import type { Fact } from "../../shared/telemetry/events.ts";
import { eventStream } from "../http/event-stream.ts";
import { route, type Route } from "../http/route.ts";

const Query = v.strictObject({
  mailbox: v.optional(v.pipe(v.string(), v.description("Only facts about this mailbox."))),
  kind: v.optional(
    v.pipe(v.string(), v.description("Only these kinds, separated by commas: `mail.delivered,mail.parked`.")),
  ),
});

export function eventRoutes({ facts }: Pick<ApiDeps, "facts">, stop: AbortSignal): Route[] {
  return [
    route({
      method: "get",
      path: "/api/v1/events",
      tag: "Operation",
      summary: "Watch what happens",
      about:
        "Server-sent events: `event` is the kind of the fact, `data` the fact as JSON. A comment every 15 seconds keeps the connection alive. " +
        "Facts about single HTTP requests come only when their kind is asked for. A client that reads too slowly is disconnected; connect again, nothing is repeated.",
      query: Query,
      answers: { 200: { about: "The stream", type: "text/event-stream" } },
      problems: [],
      handle({ query, request }) {
        const headers = {
          "content-type": "text/event-stream; charset=utf-8",
          "cache-control": "no-store",
          "x-accel-buffering": "no",
        };
        // A HEAD runs this handler too, but nobody would ever read or cancel its stream.
        if (request.method === "HEAD") return new Response(null, { headers });
        const signal = AbortSignal.any([request.signal, stop]);
        return new Response(eventStream(facts, chosen(query), signal), { headers });
      },
    }),
  ];
}

function chosen({ mailbox, kind }: v.InferOutput<typeof Query>): (fact: Fact) => boolean {
  const kinds = new Set(kind?.split(",").map((name) => name.trim()));
  return (fact) => {
    if (mailbox !== undefined && !("mailbox" in fact && fact.mailbox === mailbox)) return false;
    return kind === undefined ? fact.kind !== "http.answered" : kinds.has(fact.kind);
  };
}
