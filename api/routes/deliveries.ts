/** /api/v1/deliveries and /api/v1/messages: what became of each message, its bytes, and delivering it again. */
import * as v from "valibot";
import { Delivery, DeliveryState } from "../../shared/contract/delivery.ts";
import { Problem } from "../../shared/contract/problem.ts";
import { type Sending, SendingShown, shownSending } from "../../shared/contract/sending.ts";
import type { ApiDeps } from "../deps.ts";
import { notFound } from "../http/problems.ts";
import { When } from "../http/dates.ts";
import { listOf, paging } from "../http/paging.ts";
import { replay, replaySince } from "./replay.ts";
import { MAIL_PROBLEMS, VISIT_MS } from "../http/mail-problems.ts";
import { json, route, type Route } from "../http/route.ts";

type Deps = Pick<ApiDeps, "store" | "tasks" | "mail" | "config">;

const tag = "Deliveries";

const Query = v.strictObject({
  ...paging,
  state: v.exactOptional(DeliveryState),
  mailbox: v.exactOptional(v.string()),
});
const Listed = v.omit(Delivery, ["attempts"]);
const Replayed = v.object({ replayed: v.number() });
const ReplayBody = v.strictObject({
  since: When,
  mailbox: v.optional(v.string()),
  state: v.optional(DeliveryState, "parked"),
});

/** `deliveries/replay` comes before any `{id}` route, which would take it for an id. */
export function deliveryRoutes(deps: Deps): Route[] {
  return [list(deps), replayMany(deps), read(deps), replayOne(deps), message(deps), raw(deps)];
}

function list({ store }: Deps): Route {
  return route({
    method: "get",
    path: "/api/v1/deliveries",
    tag,
    summary: "List deliveries",
    about:
      "Newest first: all that are retrying or parked, and those delivered within the window (WINDOW_DAYS). Attempts are in the single delivery.",
    query: Query,
    answers: { 200: { about: "A page of deliveries", schema: listOf(Listed) } },
    problems: [],
    async handle({ query }) {
      const page = await store.deliveries.list(query);
      return json({ ...page, items: page.items.map((item) => v.parse(Listed, item)) });
    },
  });
}

function read({ store }: Deps): Route {
  return route({
    method: "get",
    path: "/api/v1/deliveries/{id}",
    tag,
    summary: "Read a delivery and its attempts",
    answers: { 200: { about: "The delivery", schema: Delivery } },
    problems: ["not_found"],
    async handle({ id }) {
      return json(await known(store, id));
    },
  });
}

function replayOne(deps: Deps): Route {
  return route({
    method: "post",
    path: "/api/v1/deliveries/{id}/replay",
    tag,
    summary: "Deliver one message again now",
    about:
      "A parked or retrying message is tried at once from its kept bytes; a delivered one is fetched from the mail server once more. The delivery id stays the same.",
    answers: { 202: { about: "It is in the queue", schema: Replayed } },
    problems: ["not_found"],
    async handle({ id }) {
      await replay(deps, [await known(deps.store, id)]);
      return json({ replayed: 1 }, 202);
    },
  });
}

function replayMany(deps: Deps): Route {
  return route({
    method: "post",
    path: "/api/v1/deliveries/replay",
    tag,
    summary: "Deliver many messages again now",
    about:
      "Every delivery in `state` (parked, unless told otherwise) since a date, of one mailbox or of all: for when an endpoint is back after a long time.",
    body: ReplayBody,
    answers: { 202: { about: "So many are in the queue", schema: Replayed } },
    problems: ["not_found"],
    async handle({ body }) {
      const { mailbox } = body;
      if (mailbox !== undefined && !(await deps.store.mailboxes.get(mailbox))) throw notFound("mailbox", mailbox);
      return json({ replayed: await replaySince(deps, body) }, 202);
    },
  });
}

function message({ store }: Deps): Route {
  return route({
    method: "get",
    path: "/api/v1/messages/{deliveryId}",
    tag: "Messages",
    summary: "Read what is known of a message",
    about:
      "The delivery of a message that was received, or, for an id that begins with `snd_`, the sending of one that goes out. Its content is at `/raw`.",
    answers: { 200: { about: "The delivery or the sending", schema: v.union([Delivery, SendingShown]) } },
    problems: ["not_found"],
    async handle({ id }) {
      return json(isSending(id) ? shownSending(await knownSending(store, id)) : await known(store, id));
    },
  });
}

function raw({ store, mail }: Deps): Route {
  return route({
    method: "get",
    path: "/api/v1/messages/{deliveryId}/raw",
    tag: "Messages",
    summary: "Download a message as it was received",
    about: "From the bytes kept for retries, else from the mail server; 404 when neither has it any more.",
    answers: { 200: { about: "The RFC 822 bytes", type: "message/rfc822" } },
    problems: ["not_found", "gone", ...MAIL_PROBLEMS],
    async handle({ id, signal }) {
      const bytes = isSending(id) ? await outgoing(id) : await received(id, signal(VISIT_MS));
      return new Response(new Uint8Array(bytes), {
        headers: {
          "content-type": "message/rfc822",
          // Mail may hold anything: a browser must save it, never show it.
          "content-disposition": `attachment; filename="${id.replace(/[^A-Za-z0-9._-]/g, "_")}.eml"`,
          "cache-control": "no-store",
        },
      });
    },
  });

  async function outgoing(id: string): Promise<Uint8Array> {
    const bytes = await store.outbox.raw((await knownSending(store, id)).id);
    if (bytes) return bytes;
    throw new Problem("gone", "The message was sent, and its bytes are no longer kept.", { retry: "never" });
  }

  async function received(id: string, signal: AbortSignal): Promise<Uint8Array> {
    const delivery = await known(store, id);
    return (await store.deliveries.raw(id)) ?? fromServer(delivery, signal);
  }

  async function fromServer(delivery: Delivery, signal: AbortSignal): Promise<Uint8Array> {
    const item = await store.mailboxes.get(delivery.mailbox);
    if (!item) throw new Problem("gone", "The message's mailbox is no longer registered.", { retry: "never" });
    return mail.raw(delivery.ref, item.mailbox, signal);
  }
}

function isSending(id: string): boolean {
  return id.startsWith("snd_");
}

async function knownSending(store: Deps["store"], id: string): Promise<Sending> {
  const sending = await store.outbox.get(id);
  if (!sending) throw notFound("message", id);
  return sending;
}

async function known(store: Deps["store"], id: string): Promise<Delivery> {
  const delivery = await store.deliveries.get(id);
  if (!delivery) throw notFound("delivery", id);
  return delivery;
}
