/** GetStreamingEvents: a hanging connection with its heartbeats, its events and its end. */
import type { Ask, World } from "./ask.ts";
import type { Beat } from "./notify.ts";
import { answer, EwsError, failure, SoapFault, success } from "./soap.ts";
import type { Mailbox } from "./store.ts";
import type { Stream, Subscription } from "./subscriptions.ts";
import { child, leaf, tag, textAt } from "./xml.ts";

/** Where the envelopes of a stream go. */
export type StreamReply = { send(body: string): void; end(): void; closed(work: () => void): void };

const NAME = "GetStreamingEvents";

/** Answers a GetStreamingEvents: holds the connection, and tells what its subscriptions have to tell. */
export function stream(ask: Ask, beat: Beat, reply: StreamReply): void {
  const { world, acting, request } = ask;
  const minutes = Number(textAt(request, "ConnectionTimeout"));
  if (!(minutes >= 1 && minutes <= 30)) throw schemaFault("ConnectionTimeout must be between 1 and 30.");
  const ids = (child(request, "SubscriptionIds")?.children ?? []).map(({ text }) => text.trim());
  if (ids.length === 0 || ids.length > 200) throw schemaFault("SubscriptionIds must be between 1 and 200.");
  const { found, lost, error } = lookUp(world, ids, ask.user);
  if (error) {
    reply.send(lossOf(lost, error));
    return reply.end();
  }
  const open = [...world.subscriptions.streams].filter(({ payer }) => payer === acting).length;
  const taken = found.filter((one) => one.stream);
  if (open >= world.limits.connections && taken.length === 0) throw new SoapFault("ErrorExceededConnectionCount");
  // A second connection for a subscription ends the first.
  for (const one of taken) one.stream?.close([]);
  return hold(world, { acting, found, lifetimeMs: minutes * beat.minuteMs, beat }, reply);
}

function schemaFault(message: string): SoapFault {
  return new SoapFault("ErrorSchemaValidation", { message: `The request failed schema validation: ${message}` });
}

function lookUp(world: World, ids: string[], user: Mailbox) {
  const found: Subscription[] = [];
  const lost: string[] = [];
  let error: string | undefined;
  for (const id of ids) {
    try {
      const one = world.subscriptions.find(id, user);
      if (one.kind !== "streaming") throw new EwsError("ErrorInvalidSubscription");
      found.push(one);
    } catch (problem) {
      if (!(problem instanceof EwsError)) throw problem;
      error ??= problem.code;
      lost.push(id);
    }
  }
  return { found, lost, error };
}

/** Says that these subscriptions are no more. */
function lossOf(ids: string[], code: string): string {
  const extra = tag("m:ErrorSubscriptionIds", {}, ...ids.map((id) => leaf("t:SubscriptionId", id)));
  return answer(NAME, [failure(NAME, new EwsError(code, { extra }))]);
}

function said(...content: string[]): string {
  return answer(NAME, [success(NAME, ...content)]);
}

/** All that the subscription has to tell, in one notification. */
function news(one: Subscription): string {
  const events = one.waiting.splice(0).map(({ xml }) => xml);
  return said(tag("m:Notifications", {}, tag("m:Notification", {}, leaf("t:SubscriptionId", one.id), ...events)));
}

type Held = { acting: Mailbox; found: Subscription[]; lifetimeMs: number; beat: Beat };

function hold(world: World, { acting, found, lifetimeMs, beat }: Held, reply: StreamReply): void {
  const due = new Set<Subscription>();
  const over = (): void => {
    clearInterval(heart);
    clearTimeout(life);
    world.subscriptions.streams.delete(me);
    for (const one of me.subscriptions) {
      if (one.stream === me) one.stream = undefined;
      one.expiresAt = Date.now() + one.lifetimeMs;
    }
    me.subscriptions.clear();
    due.clear();
  };
  const end = (last: string): void => {
    over();
    reply.send(last);
    reply.end();
  };
  const lose = (lost: Subscription[], code: string): void => {
    for (const one of lost) world.subscriptions.remove(one);
    const ids = lost.map(({ id }) => id);
    end(lossOf(ids, code));
  };
  const tell = (): void => {
    for (const one of due) {
      due.delete(one);
      if (one.missed) lose([one], "ErrorMissedNotificationEvents");
      else if (one.waiting.length > 0) reply.send(news(one));
    }
  };
  const me: Stream = {
    payer: acting,
    subscriptions: new Set(found),
    wake(one) {
      // Events of one moment go out together, as they do from Exchange.
      if (due.size === 0) setImmediate(tell);
      due.add(one);
    },
    close: (lost) => (lost.length > 0 ? lose(lost, "ErrorSubscriptionNotFound") : end(said(status("Closed")))),
  };
  const heart = setInterval(() => {
    if (beat.heartbeats) reply.send(said(status("OK")));
  }, beat.heartbeatMs);
  const life = setTimeout(() => me.close([]), lifetimeMs);
  reply.closed(over);
  world.subscriptions.streams.add(me);
  for (const one of found) one.stream = me;
  reply.send(said(status("OK")));
  for (const one of found) if (one.waiting.length > 0 || one.missed) me.wake(one);
}

function status(word: "OK" | "Closed"): string {
  return leaf("m:ConnectionStatus", word);
}
