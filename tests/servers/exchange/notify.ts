/** Subscribe, Unsubscribe and GetEvents. */
import { answerOne, type Ask, folderOf, type Operation } from "./ask.ts";
import { EwsError } from "./soap.ts";
import type { Folder } from "./store.ts";
import { type Subscription, watermark, watermarkNumber } from "./subscriptions.ts";
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
