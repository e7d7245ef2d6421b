/**
 * Where Microsoft Graph notifies of new mail. An answer depends on no store and no other node: Graph delays, and then drops,
 * the notifications of an address that answers slowly.
 */
import * as v from "valibot";
import { LIFECYCLE_PATH, NOTIFICATION_PATH } from "../../shared/mail/graph/notifications/push.ts";
import type { Hint } from "../../shared/mail/graph/notifications/hints.ts";
import type { ProblemCode } from "../../shared/contract/problem.ts";
import type { ApiDeps } from "../deps.ts";
import { readJson } from "../http/body.ts";
import { parseInput, route, type Route, type RouteRequest } from "../http/route.ts";

/** Graph sends up to some hundred at once, of one address. */
const MAX_BYTES = 4 * 1024 * 1024;
const Notifications = v.object({
  value: v.array(v.object({ clientState: v.nullish(v.string(), ""), lifecycleEvent: v.optional(v.string()) })),
});
const LIFECYCLE_HINTS: Record<string, Hint> = {
  reauthorizationRequired: "renew",
  subscriptionRemoved: "removed",
  missed: "missed",
};

const ANSWERS = {
  200: { description: "The validation token, as text", type: "text/plain" },
  202: { description: "Taken, also when the notification was not for this service", type: null },
};

/** Not part of the API: Graph alone calls them. A token in the notification proves that Graph got it from this service. */
export function graphNotificationRoutes({ graphHints }: Pick<ApiDeps, "graphHints">): Route[] {
  const take =
    (hintOf: (event: string | undefined) => Hint | undefined) =>
    async ({ id, request }: RouteRequest<undefined, undefined>) => {
      const token = new URL(request.url).searchParams.get("validationToken");
      if (token !== null)
        return new Response(token, {
          headers: { "content-type": "text/plain; charset=utf-8", "x-content-type-options": "nosniff" },
        });
      const { value } = parseInput(Notifications, await readJson(request, ["application/json"], MAX_BYTES));
      const genuine = value.filter(({ clientState }) => graphHints.isGenuine(id, clientState ?? ""));
      // Graph sends the same event several times.
      for (const hint of new Set(genuine.map(({ lifecycleEvent }) => hintOf(lifecycleEvent))))
        if (hint !== undefined) graphHints.give(id, hint);
      return new Response(null, { status: 202 });
    };
  const problems: ProblemCode[] = ["invalid", "malformed", "media_type", "too_large", "timeout"];
  const common = { method: "post", tag: "Microsoft Graph", scope: "public", responses: ANSWERS, problems } as const;
  return [
    route({
      ...common,
      path: `${NOTIFICATION_PATH}/{mailbox}`,
      summary: "Notifications of new mail, from Microsoft Graph",
      handle: take(() => "changed"),
    }),
    route({
      ...common,
      path: `${LIFECYCLE_PATH}/{mailbox}`,
      summary: "Notifications about a subscription, from Microsoft Graph",
      handle: take((event) => (event === undefined ? undefined : LIFECYCLE_HINTS[event])),
    }),
  ];
}
