/** /api/v1/deliveries and /api/v1/messages: the result of each message, its bytes, and replays. */
import * as v from "valibot";
import { Delivery, DeliveryState } from "../../shared/contract/delivery.ts";
import { Problem } from "../../shared/contract/problem.ts";
import { type Sending, SendingView, toSendingView } from "../../shared/contract/sending.ts";
import type { ScopedDeps } from "../scoped-deps.ts";
import { notFound } from "../http/problems.ts";
import { DateInput } from "../http/dates.ts";
import { searchDeliveries } from "../http/delivery-search.ts";
import { pageOf, pageQuery } from "../http/paging.ts";
import { replay, replaySince } from "./replay.ts";
import { MAIL_PROBLEMS, MAIL_TIMEOUT_MS } from "../http/mail-problems.ts";
import { jsonResponse, route, type Route } from "../http/route.ts";

type DeliveryRoutesDeps = Pick<ScopedDeps, "store" | "tasks" | "mail" | "config" | "countParkedTasks">;

const tag = "Deliveries";

const MAX_TEXT = 500;

const Query = v.strictObject({
  ...pageQuery,
  state: v.exactOptional(DeliveryState),
  mailbox: v.exactOptional(v.string()),
  text: v.exactOptional(
    v.pipe(
      v.string(),
      v.regex(/\S/, "must have more than spaces"),
      v.maxLength(MAX_TEXT),
      v.description(
        "A part of the subject or of the sender, whatever its case, or the whole Message-ID, with or without angle brackets. A search takes about two seconds at most. So a page may have few items or none although `next` is set, and `total` counts what matches the other members.",
      ),
    ),
  ),
});
const DeliverySummary = v.omit(Delivery, ["attempts"]);
/** `parkedTasks`: how many tasks are parked, if that was asked and the queue can be asked. */
const DeliveryPage = v.object({ ...pageOf(DeliverySummary).entries, parkedTasks: v.exactOptional(v.number()) });
const ReplayResult = v.object({ replayed: v.number() });
const ReplayBody = v.strictObject({
  since: DateInput,
  mailbox: v.optional(v.string()),
  state: v.optional(DeliveryState, "parked"),
});

/** `deliveries/replay` comes before any `{id}` route, which would otherwise match it. */
export function deliveryRoutes(deps: DeliveryRoutesDeps): Route[] {
  return [list(deps), replayMany(deps), read(deps), replayOne(deps), message(deps), raw(deps)];
}

function list({ store, countParkedTasks }: DeliveryRoutesDeps): Route {
  return route({
    method: "get",
    path: "/api/v1/deliveries",
    tag,
    scope: "read",
    summary: "List deliveries",
    description:
      "Newest first: all retrying and parked deliveries, and those delivered within WINDOW_DAYS. `GET /api/v1/deliveries/{id}` shows the attempts. `message` is what the record keeps of the message (KEEP_SUBJECTS). With `state=parked`, `parkedTasks` counts parked tasks, whose messages may have no delivery yet; `GET /api/v1/parked` lists both.",
    query: Query,
    responses: { 200: { description: "A page of deliveries", schema: DeliveryPage } },
    problems: [],
    async handle({ query }) {
      const { text } = query;
      const page =
        text === undefined
          ? await store.deliveries.list(query)
          : await searchDeliveries(store.deliveries, { ...query, text });
      const items = page.items.map((item) => v.parse(DeliverySummary, item));
      const parked = query.state === "parked" ? await countParkedTasks() : undefined;
      return jsonResponse({ ...page, items, ...(parked !== undefined && { parkedTasks: parked }) });
    },
  });
}

function read({ store }: DeliveryRoutesDeps): Route {
  return route({
    method: "get",
    path: "/api/v1/deliveries/{id}",
    tag,
    scope: "read",
    summary: "Read a delivery and its attempts",
    responses: { 200: { description: "The delivery", schema: Delivery } },
    problems: ["not_found"],
    async handle({ id }) {
      return jsonResponse(await getDelivery(store, id));
    },
  });
}

function replayOne(deps: DeliveryRoutesDeps): Route {
  return route({
    method: "post",
    path: "/api/v1/deliveries/{id}/replay",
    tag,
    scope: "manage",
    summary: "Deliver one message again now",
    description:
      "A parked or retrying delivery is attempted at once with its stored bytes. For a delivered one the service downloads the message again. The delivery id stays the same.",
    responses: { 202: { description: "It is in the queue", schema: ReplayResult } },
    problems: ["not_found"],
    async handle({ id, note }) {
      const delivery = await getDelivery(deps.store, id);
      note({ mailbox: delivery.mailbox });
      await replay(deps, [delivery]);
      return jsonResponse({ replayed: 1 }, 202);
    },
  });
}

function replayMany(deps: DeliveryRoutesDeps): Route {
  return route({
    method: "post",
    path: "/api/v1/deliveries/replay",
    tag,
    scope: "manage",
    summary: "Deliver many messages again now",
    description:
      "Replays every delivery in `state` (parked by default) since a date, of one mailbox or of all. Use it when an endpoint is back after a long time.",
    body: ReplayBody,
    responses: { 202: { description: "How many are in the queue", schema: ReplayResult } },
    problems: ["not_found"],
    async handle({ body }) {
      const { mailbox } = body;
      if (mailbox !== undefined && !(await deps.store.mailboxes.get(mailbox))) throw notFound("mailbox", mailbox);
      return jsonResponse({ replayed: await replaySince(deps, body) }, 202);
    },
  });
}

function message({ store }: DeliveryRoutesDeps): Route {
  return route({
    method: "get",
    path: "/api/v1/messages/{deliveryId}",
    tag: "Messages",
    scope: "read",
    summary: "Read what is known about a message",
    description:
      "The delivery of a received message. For an id that begins with `snd_` it is the sending of an outgoing message. The content is at `/raw`.",
    responses: { 200: { description: "The delivery or the sending", schema: v.union([Delivery, SendingView]) } },
    problems: ["not_found"],
    async handle({ id }) {
      return jsonResponse(isSending(id) ? toSendingView(await getSending(store, id)) : await getDelivery(store, id));
    },
  });
}

function raw({ store, mail }: DeliveryRoutesDeps): Route {
  return route({
    method: "get",
    path: "/api/v1/messages/{deliveryId}/raw",
    tag: "Messages",
    scope: "read",
    summary: "Download a message as it was received",
    description: "From the spool, else from the mail server. 404 when neither has it any more.",
    responses: { 200: { description: "The RFC 822 bytes", type: "message/rfc822" } },
    problems: ["not_found", "gone", ...MAIL_PROBLEMS],
    async handle({ id, signal }) {
      const bytes = isSending(id) ? await readOutgoing(id) : await readReceived(id, signal(MAIL_TIMEOUT_MS));
      return new Response(new Uint8Array(bytes), {
        headers: {
          "content-type": "message/rfc822",
          // A message may contain anything. A browser must save it and not show it.
          "content-disposition": `attachment; filename="${id.replace(/[^A-Za-z0-9._-]/g, "_")}.eml"`,
          "cache-control": "no-store",
        },
      });
    },
  });

  async function readOutgoing(id: string): Promise<Uint8Array> {
    const bytes = await store.outbox.getRaw((await getSending(store, id)).id);
    if (bytes) return bytes;
    throw new Problem("gone", "The message was sent, and its bytes are no longer stored.", { retry: "never" });
  }

  async function readReceived(id: string, signal: AbortSignal): Promise<Uint8Array> {
    const delivery = await getDelivery(store, id);
    return (await store.deliveries.getRaw(id)) ?? fetchFromServer(delivery, signal);
  }

  async function fetchFromServer(delivery: Delivery, signal: AbortSignal): Promise<Uint8Array> {
    const item = await store.mailboxes.get(delivery.mailbox);
    if (!item) throw new Problem("gone", "The message's mailbox is no longer registered.", { retry: "never" });
    return mail.fetchRaw(delivery.ref, item.mailbox, signal);
  }
}

function isSending(id: string): boolean {
  return id.startsWith("snd_");
}

async function getSending(store: DeliveryRoutesDeps["store"], id: string): Promise<Sending> {
  const sending = await store.outbox.get(id);
  if (!sending) throw notFound("message", id);
  return sending;
}

async function getDelivery(store: DeliveryRoutesDeps["store"], id: string): Promise<Delivery> {
  const delivery = await store.deliveries.get(id);
  if (!delivery) throw notFound("delivery", id);
  return delivery;
}
