/**
 * Parses Exchange's answers about subscriptions: what happened in which folders, which subscriptions are lost, whether
 * the stream goes on.
 */
import { findElements, type XmlElement, findText, findElement } from "./elements.ts";

/**
 * One answer: its code, and the server's words if it is an error. ErrorServerBusy says how long to wait, in
 * milliseconds.
 */
export type ResponseStatus = { code: string; backOffMs: number | null };

/** The ids of folders in which something appeared; `all` if the folder is unknown. */
export type ChangedFolders = string[] | "all";

export type EwsNotification = ResponseStatus & {
  /** Subscriptions that the server no longer knows. */
  lostSubscriptions: string[];
  /** The server ends the connection after this. */
  closed: boolean;
  /** What happened, by the id of the subscription. */
  changes: Map<string, ChangedFolders>;
  /** The ids of messages that the server has just delivered, by the id of the subscription. */
  delivered: Map<string, string[]>;
  /** Where the next GetEvents continues. */
  watermark: string | null;
};

/** Children of a notification that are no events. */
const NON_EVENT_ELEMENTS = new Set(["SubscriptionId", "PreviousWatermark", "MoreEvents", "StatusEvent"]);

/** The code of an answer. A SOAP fault may have one too. */
export function parseResponseStatus(message: XmlElement): ResponseStatus {
  const wait = findElements(message, "Value").find(({ attributes }) => attributes["Name"] === "BackOffMilliseconds");
  return {
    code: findText(message, "ResponseCode") ?? "NoError",
    backOffMs: wait ? Number(wait.text) || 0 : null,
  };
}

/** The notifications of one envelope: usually one, for a heartbeat or for events. */
export function parseNotifications(envelope: XmlElement): EwsNotification[] {
  const names = ["GetStreamingEventsResponseMessage", "GetEventsResponseMessage", "Fault"];
  return names.flatMap((name) => findElements(envelope, name)).map(toNotification);
}

function toNotification(message: XmlElement): EwsNotification {
  const notifications = findElements(message, "Notification");
  const lost = findElement(message, "ErrorSubscriptionIds")?.children ?? [];
  return {
    ...parseResponseStatus(message),
    lostSubscriptions: lost.map(({ text }) => text.trim()),
    closed: findText(message, "ConnectionStatus") === "Closed",
    changes: changesBySubscription(notifications),
    delivered: deliveredBySubscription(notifications),
    watermark:
      notifications
        .flatMap((one) => findElements(one, "Watermark"))
        .at(-1)
        ?.text.trim() ?? null,
  };
}

function changesBySubscription(notifications: XmlElement[]): Map<string, ChangedFolders> {
  const changes = new Map<string, ChangedFolders>();
  for (const notification of notifications) {
    const events = notification.children.filter(({ name }) => !NON_EVENT_ELEMENTS.has(name));
    if (events.length === 0) continue;
    const id = findText(notification, "SubscriptionId") ?? "";
    changes.set(id, mergeChanges(changes.get(id), changedFolders(events)));
  }
  return changes;
}

/** Exchange names the cause of an event: a message that was delivered, or one that was moved, copied or imported. */
function deliveredBySubscription(notifications: XmlElement[]): Map<string, string[]> {
  const delivered = new Map<string, string[]>();
  for (const notification of notifications) {
    const events = findElements(notification, "NewMailEvent");
    const keys = events.flatMap((event) => findElement(event, "ItemId")?.attributes["Id"] ?? []);
    if (keys.length === 0) continue;
    const id = findText(notification, "SubscriptionId") ?? "";
    delivered.set(id, [...(delivered.get(id) ?? []), ...keys]);
  }
  return delivered;
}

function changedFolders(events: XmlElement[]): ChangedFolders {
  const folders = events.map((event) => findElement(event, "ParentFolderId")?.attributes["Id"]);
  // An event about a folder itself: the folder may be new and may have messages already.
  const unclear = events.some((event) => findElement(event, "FolderId")) || folders.includes(undefined);
  return unclear ? "all" : folders.filter((id) => id !== undefined);
}

function mergeChanges(one: ChangedFolders | undefined, other: ChangedFolders): ChangedFolders {
  if (one === "all" || other === "all") return "all";
  return [...new Set([...(one ?? []), ...other])];
}
