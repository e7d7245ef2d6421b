/** /api/v1/mailboxes/{id}/messages: sending, and the list of what was sent. */
import * as v from "valibot";
import { OutgoingMessage } from "../../shared/contract/outgoing.ts";
import { Problem } from "../../shared/contract/problem.ts";
import { type Sending, SendingView, SendState, toSendingView } from "../../shared/contract/sending.ts";
import { unlessAborted } from "../../shared/concurrency/abort.ts";
import { sleep } from "../../shared/time.ts";
import type { ApiDeps } from "../deps.ts";
import { acceptMessage } from "../outgoing.ts";
import { getMailbox } from "./mailboxes.ts";
import { pageOf, pageQuery } from "../http/paging.ts";
import { jsonResponse, route, type Route } from "../http/route.ts";

type OutgoingRoutesDeps = Pick<ApiDeps, "config" | "store" | "tasks" | "facts">;

const PATH = "/api/v1/mailboxes/{id}/messages";
const tag = "Sending";
/** Fifty megabytes of message are a third more in base64. */
const MAX_BODY_BYTES = 70 * 1024 * 1024;
const MAX_WAIT_SECONDS = 300;
/** Another node may be sending. This node does not see its facts, so it polls the store. */
const POLL_EVERY_MS = 500;

const SendQuery = v.strictObject({
  wait: v.optional(
    v.pipe(
      v.number(),
      v.minValue(0),
      v.maxValue(MAX_WAIT_SECONDS),
      v.description("How many seconds to wait for the final state. 0 answers at once."),
    ),
    0,
  ),
});
const ListQuery = v.strictObject({ ...pageQuery, state: v.exactOptional(SendState) });

export function outgoingRoutes(deps: OutgoingRoutesDeps): Route[] {
  return [send(deps), list(deps)];
}

function send(deps: OutgoingRoutesDeps): Route {
  return route({
    method: "post",
    path: PATH,
    tag,
    scope: "send",
    summary: "Send a message",
    description:
      "The body is either the parts of a message, or a ready message in `raw`. It goes out through the mailbox's server, now or at `sendAt`. The service tries again for three days while the server " +
      "defers it. Every recipient has its own state. `unknown` means that the message was handed over and the answer was lost: it may have arrived, and it is " +
      "never sent again. With an Idempotency-Key a repeated request is the same message. Without one each request is a new message.",
    audited: false,
    body: OutgoingMessage,
    maxBodyBytes: MAX_BODY_BYTES,
    query: SendQuery,
    requestHeaders: {
      "idempotency-key":
        "Any text of up to 255 characters that names this message. A repeated request with the same key and body gets the first one's answer, for WINDOW_DAYS.",
    },
    responses: {
      200: { description: "The final state came within the time of `wait`", schema: SendingView },
      202: {
        description: "It was accepted and will be sent, however the first attempt ends; `location` has its state",
        schema: SendingView,
        headers: { location: "Where to read its state." },
      },
    },
    problems: ["not_found", "no_sending", "sender", "loop", "key_reused", "rate", "message", "too_large", "full"],
    async handle({ id, body, query, request, signal, caller }) {
      const deadline = signal(query.wait * 1000);
      const { mailbox } = await getMailbox(deps.store, id);
      const accepted = await acceptMessage(deps, mailbox, body, {
        key: idempotencyKeyOf(request),
        actor: caller.actor,
      });
      const sending = query.wait > 0 ? await waitForOutcome(deps, accepted, deadline) : accepted;
      const location = `${deps.config.BASE_PATH}/api/v1/messages/${sending.id}`;
      const over = sending.state !== "queued";
      return jsonResponse(toSendingView(sending), over && query.wait > 0 ? 200 : 202, { location });
    },
  });
}

function list({ store }: OutgoingRoutesDeps): Route {
  return route({
    method: "get",
    path: PATH,
    tag,
    scope: "read",
    summary: "List what a mailbox sends",
    description: "Newest first: everything queued, and the rest for WINDOW_DAYS.",
    query: ListQuery,
    responses: { 200: { description: "A page of sendings", schema: pageOf(SendingView) } },
    problems: ["not_found"],
    async handle({ id, query }) {
      await getMailbox(store, id);
      const page = await store.outbox.list({ ...query, mailbox: id });
      return jsonResponse({ ...page, items: page.items.map(toSendingView) });
    },
  });
}

/** The draft standard writes the key as a quoted string. Most clients send it without quotes. */
function idempotencyKeyOf(request: Request): string | null {
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

/** The sending once it is no longer queued, or its last known state when the signal aborts. Never rejects. */
export async function waitForOutcome(
  { store, facts }: Pick<OutgoingRoutesDeps, "store" | "facts">,
  accepted: Sending,
  signal: AbortSignal,
): Promise<Sending> {
  let sending = accepted;
  let woken = new AbortController();
  const unsubscribe = facts.subscribe((fact) => {
    if ("sending" in fact && fact.sending === accepted.id && fact.kind !== "send.queued") woken.abort();
  });
  try {
    while (!signal.aborted) {
      // If the store cannot answer now, the message is still accepted.
      const current = await unlessAborted(store.outbox.get(accepted.id), signal).catch(() => undefined);
      sending = current ?? sending;
      if (sending.state !== "queued") break;
      await sleep(POLL_EVERY_MS, AbortSignal.any([signal, woken.signal]));
      woken = new AbortController();
    }
    return sending;
  } finally {
    unsubscribe();
  }
}
