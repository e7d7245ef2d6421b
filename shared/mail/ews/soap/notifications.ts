/** What an Exchange server says in answers about subscriptions: what happened in which folders, what was lost, whether more will come. */
import { allWithin, type Element, textWithin, within } from "./elements.ts";

/** One answer: its code, and the server's words where it is an error (ErrorServerBusy says for how long, in milliseconds). */
export type Said = { code: string; words: string; backOffMs: number | null };

/** Folders in which something appeared, by their ids; `all` where one cannot tell which. */
export type Stirred = string[] | "all";

export type Notice = Said & {
  /** Subscriptions that the server no longer knows. */
  lost: string[];
  /** The server ends the connection after this. */
  closed: boolean;
  /** What happened, by the id of the subscription. */
  news: Map<string, Stirred>;
  /** Where GetEvents goes on. */
  watermark: string | null;
};

/** Children of a notification that are no event. */
const FRAME = new Set(["SubscriptionId", "PreviousWatermark", "MoreEvents", "StatusEvent"]);

/** What an answer's code and words are; a SOAP fault has them too. */
export function saidBy(message: Element): Said {
  const words =
    textWithin(message, "MessageText") ?? textWithin(message, "Message") ?? textWithin(message, "faultstring");
  const wait = allWithin(message, "Value").find(({ attributes }) => attributes["Name"] === "BackOffMilliseconds");
  return {
    code: textWithin(message, "ResponseCode") ?? "NoError",
    words: words ?? "",
    backOffMs: wait ? Number(wait.text) || 0 : null,
  };
}

/** The notices of one envelope: usually one, for a heartbeat or for events. */
export function noticesIn(envelope: Element): Notice[] {
  const names = ["GetStreamingEventsResponseMessage", "GetEventsResponseMessage", "Fault"];
  return names.flatMap((name) => allWithin(envelope, name)).map(noticeOf);
}

function noticeOf(message: Element): Notice {
  const notifications = allWithin(message, "Notification");
  const lost = within(message, "ErrorSubscriptionIds")?.children ?? [];
  return {
    ...saidBy(message),
    lost: lost.map(({ text }) => text.trim()),
    closed: textWithin(message, "ConnectionStatus") === "Closed",
    news: newsOf(notifications),
    watermark:
      notifications
        .flatMap((one) => allWithin(one, "Watermark"))
        .at(-1)
        ?.text.trim() ?? null,
  };
}

function newsOf(notifications: Element[]): Map<string, Stirred> {
  const news = new Map<string, Stirred>();
  for (const notification of notifications) {
    const events = notification.children.filter(({ name }) => !FRAME.has(name));
    if (events.length === 0) continue;
    const id = textWithin(notification, "SubscriptionId") ?? "";
    news.set(id, together(news.get(id), stirredBy(events)));
  }
  return news;
}

function stirredBy(events: Element[]): Stirred {
  const folders = events.map((event) => within(event, "ParentFolderId")?.attributes["Id"]);
  // An event about a folder itself: it may be new, and have messages already.
  const unclear = events.some((event) => within(event, "FolderId")) || folders.includes(undefined);
  return unclear ? "all" : folders.filter((id) => id !== undefined);
}

function together(one: Stirred | undefined, other: Stirred): Stirred {
  if (one === "all" || other === "all") return "all";
  return [...new Set([...(one ?? []), ...other])];
}
