/** /api/v1/mailboxes/{id}/messages: sending, and what was sent. */
import * as v from "valibot";
import { OutgoingMessage } from "../../shared/contract/outgoing.ts";
import { Problem } from "../../shared/contract/problem.ts";
import { type Sending, SendingShown, SendState, shownSending } from "../../shared/contract/sending.ts";
import { slept } from "../../shared/time.ts";
import type { ApiDeps } from "../deps.ts";
import { takeUp } from "../outgoing.ts";
import { found } from "./mailboxes.ts";
import { listOf, paging } from "../http/paging.ts";
import { json, route, type Route } from "../http/route.ts";

type Deps = Pick<ApiDeps, "config" | "store" | "tasks" | "facts">;

const PATH = "/api/v1/mailboxes/{id}/messages";
const tag = "Sending";
/** Fifty megabytes of message, a third more in base64. */
const MOST_BYTES = 70 * 1024 * 1024;
const LONGEST_WAIT_S = 300;
/** Another node may be sending: its facts are not heard here, so the store is asked. */
const LOOK_EVERY_MS = 500;

const Wait = v.strictObject({
  wait: v.optional(
    v.pipe(
      v.number(),
      v.minValue(0),
      v.maxValue(LONGEST_WAIT_S),
      v.description("Seconds to wait for the final state; 0 answers at once."),
    ),
    0,
  ),
});
const Query = v.strictObject({ ...paging, state: v.exactOptional(SendState) });

export function outgoingRoutes(deps: Deps): Route[] {
  return [send(deps), list(deps)];
}

function send(deps: Deps): Route {
  return route({
    method: "post",
    path: PATH,
    tag,
    summary: "Send a message",
    about:
      "Either the parts of a message, or a ready one in `raw`. It goes out through the mailbox's SMTP server, now or at `sendAt`, and is tried again for three days while the server " +
      "asks to come back later. Every recipient has a state of its own. `unknown` means that the message was handed over and the answer was lost: it may have arrived, and it is " +
      "never sent again by itself. With an Idempotency-Key a repeated request is the same message; without one each request is a new message.",
    body: OutgoingMessage,
    mostBytes: MOST_BYTES,
    query: Wait,
    takes: {
      "idempotency-key":
        "Any text of up to 255 characters that names this message. Repeating the request with the same key and body gives the first one's answer, as long as the message is remembered (WINDOW_DAYS).",
    },
    answers: {
      200: { about: "Its final state, within the time of `wait`", schema: SendingShown },
      202: {
        about: "It is in the queue; `location` tells how it goes on",
        schema: SendingShown,
        headers: { location: "Where to read its state." },
      },
    },
    problems: ["not_found", "no_sending", "sender", "loop", "key_reused", "rate", "message", "too_large", "full"],
    async handle({ id, body, query, request, signal }) {
      const { mailbox } = await found(deps.store, id);
      const taken = await takeUp(deps, mailbox, body, keyOf(request));
      const sending = query.wait > 0 ? await settled(deps, taken, signal(query.wait * 1000)) : taken;
      const location = `${deps.config.BASE_PATH}/api/v1/messages/${sending.id}`;
      const over = sending.state !== "queued";
      return json(shownSending(sending), over && query.wait > 0 ? 200 : 202, { location });
    },
  });
}

function list({ store }: Deps): Route {
  return route({
    method: "get",
    path: PATH,
    tag,
    summary: "List what a mailbox sends",
    about: "Newest first: everything queued, and the rest for as long as it is remembered (WINDOW_DAYS).",
    query: Query,
    answers: { 200: { about: "A page of sendings", schema: listOf(SendingShown) } },
    problems: ["not_found"],
    async handle({ id, query }) {
      await found(store, id);
      const page = await store.outbox.list({ ...query, mailbox: id });
      return json({ ...page, items: page.items.map(shownSending) });
    },
  });
}

/** The draft of the header gives it as a quoted string; most clients send it bare. */
function keyOf(request: Request): string | null {
  const given = request.headers.get("idempotency-key")?.trim();
  if (given === undefined) return null;
  const key = /^"(.*)"$/.exec(given)?.[1] ?? given;
  if (/^[\x20-\x7e]{1,255}$/.test(key)) return key;
  const message = "must be 1 to 255 visible ASCII characters";
  throw new Problem("invalid", `Not valid: Idempotency-Key ${message}`, {
    retry: "never",
    errors: [{ path: "idempotency-key", message }],
  });
}

/** The sending once it is no longer queued, or as it is when the signal aborts. */
export async function settled(
  { store, facts }: Pick<Deps, "store" | "facts">,
  taken: Sending,
  signal: AbortSignal,
): Promise<Sending> {
  let sending = taken;
  let woken = new AbortController();
  const unsubscribe = facts.subscribe((fact) => {
    if ("sending" in fact && fact.sending === taken.id && fact.kind !== "send.queued") woken.abort();
  });
  try {
    while (!signal.aborted) {
      sending = (await store.outbox.get(taken.id)) ?? sending;
      if (sending.state !== "queued") break;
      await slept(LOOK_EVERY_MS, AbortSignal.any([signal, woken.signal]));
      woken = new AbortController();
    }
    return sending;
  } finally {
    unsubscribe();
  }
}
