/** Subscribe, Unsubscribe, GetEvents, and the hanging GetStreamingEvents with its heartbeats and its end. */
import { answerOne, type Ask, folderOf, type Operation, type World } from "./ask.ts";
import { answer, EwsError, failure, SoapFault, success } from "./soap.ts";
import type { Folder, Mailbox } from "./store.ts";
import { type Stream, type Subscription, watermark, watermarkNumber } from "./subscriptions.ts";
import { child, leaf, tag, textAt, type Xml, isTrue } from "./xml.ts";

/** What a test may turn while the server runs. */
export type Beat = { heartbeatMs: number; minuteMs: number; heartbeats: boolean; streaming: boolean };

export function notifyOperations(beat: Beat): Record<string, Operation> {
  const subscribe: Operation = (ask) => answerOne("Subscribe", () => subscribed(ask, beat));
  return { Subscribe: subscribe, Unsubscribe: unsubscribe, GetEvents: getEvents };
}

function subscribed(ask: Ask, beat: Beat): string {
  const [wish] = ask.request.children;
  const kinds: Record<string, Subscription["kind"]> = {
    StreamingSubscriptionRequest: "streaming",
    PullSubscriptionRequest: "pull",
  };
  const kind = kinds[wish?.name ?? ""];
  if (!wish || !kind) throw new EwsError("ErrorInvalidSubscriptionRequest");
  if (kind === "streaming" && !beat.streaming) {
    throw new EwsError("ErrorInvalidSubscriptionRequest", { message: "Streaming subscriptions are not supported." });
  }
  const minutes = kind === "pull" ? Number(textAt(wish, "Timeout") ?? 30) : 30;
  const folders = wishedFolders(ask, wish);
  const mailbox = folders ? ([...folders][0]?.mailbox ?? ask.acting) : ask.acting;
  const one = ask.world.subscriptions.add(
    {
      kind,
      owner: ask.user,
      payer: ask.acting,
      mailbox,
      folders,
      events: new Set((child(wish, "EventTypes")?.children ?? []).map(({ text }) => text.trim())),
      lifetimeMs: minutes * beat.minuteMs,
    },
    ask.world.limits.subscriptions,
  );
  const mark = kind === "pull" ? leaf("m:Watermark", watermark(0)) : "";
  return leaf("m:SubscriptionId", one.id) + mark;
}

function wishedFolders(ask: Ask, wish: Xml): Set<Folder> | undefined {
  const list = child(wish, "FolderIds")?.children ?? [];
  if (isTrue(wish.attributes["SubscribeToAllFolders"])) {
    if (list.length > 0) throw new EwsError("ErrorInvalidSubscriptionRequest");
    return undefined;
  }
  if (list.length === 0) throw new EwsError("ErrorInvalidSubscriptionRequest");
  const folders = new Set(list.map((one) => folderOf(ask, one)));
  if (new Set([...folders].map(({ mailbox }) => mailbox)).size > 1) {
    throw new EwsError("ErrorInvalidSubscriptionRequest", { message: "Folders must be of one mailbox." });
  }
  return folders;
}

const unsubscribe: Operation = (ask) =>
  answerOne("Unsubscribe", () => {
    const { subscriptions } = ask.world;
    subscriptions.remove(subscriptions.find(textAt(ask.request, "SubscriptionId") ?? "", ask.user));
    return "";
  });

const getEvents: Operation = (ask) =>
  answerOne("GetEvents", () => {
    const one = ask.world.subscriptions.find(textAt(ask.request, "SubscriptionId") ?? "", ask.user);
    if (!one.missed) return events(one, textAt(ask.request, "Watermark") ?? "");
    ask.world.subscriptions.remove(one);
    throw new EwsError("ErrorMissedNotificationEvents");
  });

function events(one: Subscription, from: string): string {
  const after = watermarkNumber(from);
  if (Number.isNaN(after)) throw new EwsError("ErrorInvalidWatermark");
  one.waiting = one.waiting.filter(({ number }) => number > after);
  one.expiresAt = Date.now() + one.lifetimeMs;
  const page = one.waiting.slice(0, 50);
  const status = tag("t:StatusEvent", {}, leaf("t:Watermark", watermark(after)));
  return tag(
    "m:Notification",
    {},
    leaf("t:SubscriptionId", one.id),
    leaf("t:PreviousWatermark", from),
    leaf("t:MoreEvents", one.waiting.length > page.length),
    ...(page.length === 0 ? [status] : page.map(({ xml }) => xml)),
  );
}

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
    const extra = tag("m:ErrorSubscriptionIds", {}, ...lost.map((id) => leaf("t:SubscriptionId", id)));
    reply.send(answer(NAME, [failure(NAME, new EwsError(error, { extra }))]));
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

type Held = { acting: Mailbox; found: Subscription[]; lifetimeMs: number; beat: Beat };

function hold(world: World, { acting, found, lifetimeMs, beat }: Held, reply: StreamReply): void {
  const say = (...content: string[]) => reply.send(answer(NAME, [success(NAME, ...content)]));
  const flush = (one: Subscription): void => {
    if (one.missed) return lose([one], "ErrorMissedNotificationEvents");
    const waiting = one.waiting.splice(0);
    if (waiting.length === 0) return undefined;
    const notification = tag("m:Notification", {}, leaf("t:SubscriptionId", one.id), ...waiting.map(({ xml }) => xml));
    return say(tag("m:Notifications", {}, notification));
  };
  // Events of one moment go out together, as they do from Exchange.
  const due = new Set<Subscription>();
  const wake = (one: Subscription): void => {
    if (due.size === 0) setImmediate(flushAll);
    due.add(one);
  };
  const flushAll = (): void => {
    const list = [...due];
    due.clear();
    for (const one of list) flush(one);
  };
  const lose = (lost: Subscription[], code: string): void => {
    const extra = tag("m:ErrorSubscriptionIds", {}, ...lost.map(({ id }) => leaf("t:SubscriptionId", id)));
    for (const one of lost) world.subscriptions.remove(one);
    over();
    reply.send(answer(NAME, [failure(NAME, new EwsError(code, { extra }))]));
    reply.end();
  };
  const me: Stream = {
    payer: acting,
    subscriptions: new Set(found),
    wake,
    close(lost) {
      if (lost.length > 0) return lose(lost, "ErrorSubscriptionNotFound");
      over();
      say(leaf("m:ConnectionStatus", "Closed"));
      return reply.end();
    },
  };
  const heart = setInterval(() => {
    if (beat.heartbeats) say(leaf("m:ConnectionStatus", "OK"));
  }, beat.heartbeatMs);
  const life = setTimeout(() => me.close([]), lifetimeMs);
  const over = (): void => {
    clearInterval(heart);
    clearTimeout(life);
    world.subscriptions.streams.delete(me);
    for (const one of me.subscriptions) {
      if (one.stream === me) one.stream = undefined;
      one.expiresAt = Date.now() + one.lifetimeMs;
    }
    me.subscriptions.clear();
  };
  reply.closed(over);
  world.subscriptions.streams.add(me);
  for (const one of found) one.stream = me;
  say(leaf("m:ConnectionStatus", "OK"));
  for (const one of found) if (one.waiting.length > 0 || one.missed) wake(one);
}
