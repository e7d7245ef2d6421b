/** Subscriptions: the events of each, sent over open connections (streaming) or on request (pull). */
import { randomBytes } from "node:crypto";
import { moment } from "./shape.ts";
import { EwsError, SoapFault } from "./soap.ts";
import { changeKey, type Folder, type Happening, type Mailbox } from "./store.ts";
import { leaf, tag } from "./xml.ts";

export type Subscription = {
  id: string;
  kind: "streaming" | "pull";
  /** Who logged in to make it: only they may use it, whomever they impersonate. */
  owner: Mailbox;
  /** Whose budget it counts in: the impersonated mailbox's. */
  payer: Mailbox;
  mailbox: Mailbox;
  /** Undefined for all folders. */
  folders: Set<Folder> | undefined;
  events: Set<string>;
  /** Not told yet; the number is the watermark. */
  waiting: { number: number; xml: string }[];
  told: number;
  missed: boolean;
  /** When it ends unless somebody asks. */
  expiresAt: number;
  lifetimeMs: number;
  stream: Stream | undefined;
};

/** A hanging connection. */
export type Stream = {
  payer: Mailbox;
  subscriptions: Set<Subscription>;
  /** Events of its subscriptions wait. */
  wake: (one: Subscription) => void;
  /** Ends it as at the end of its lifetime, or because these subscriptions are no more. */
  close: (lost: Subscription[]) => void;
};

export type Subscriptions = {
  byId: Map<string, Subscription>;
  streams: Set<Stream>;
  add(
    wish: Pick<Subscription, "kind" | "owner" | "payer" | "mailbox" | "folders" | "events" | "lifetimeMs">,
    limit: number,
  ): Subscription;
  find(id: string, asking: Mailbox): Subscription;
  remove(one: Subscription): void;
  happened(what: Happening): void;
  /** Ends all of them; their streams say so. */
  expire(): void;
};

// Exchange keeps so many events for a subscription that nobody asks for.
const MOST_WAITING = 10_000;

export function newSubscriptions(): Subscriptions {
  const byId = new Map<string, Subscription>();
  const byMailbox = new Map<Mailbox, Set<Subscription>>();
  const streams = new Set<Stream>();
  const remove = (one: Subscription): void => {
    byId.delete(one.id);
    byMailbox.get(one.mailbox)?.delete(one);
    one.stream?.subscriptions.delete(one);
  };
  return {
    byId,
    streams,
    remove,
    add(wish, limit) {
      for (const one of byId.values()) if (!one.stream && one.expiresAt < Date.now()) remove(one);
      const own = [...byId.values()].filter((one) => one.payer === wish.payer).length;
      if (own >= limit) throw new SoapFault("ErrorExceededSubscriptionCount");
      const id = `JQB${randomBytes(36).toString("base64")}EAAAA${randomBytes(16).toString("base64").replaceAll("=", "")}=`;
      const state = { waiting: [], told: 0, missed: false, stream: undefined };
      const one: Subscription = { id, ...wish, ...state, expiresAt: Date.now() + wish.lifetimeMs };
      byId.set(id, one);
      const others = byMailbox.get(wish.mailbox) ?? new Set();
      byMailbox.set(wish.mailbox, others.add(one));
      return one;
    },
    find(id, asking) {
      const one = byId.get(id);
      if (one && !one.stream && one.expiresAt < Date.now()) remove(one);
      if (!one || !byId.has(id)) throw new EwsError("ErrorSubscriptionNotFound");
      if (one.owner !== asking) throw new EwsError("ErrorInvalidSubscription");
      return one;
    },
    happened(what) {
      for (const one of byMailbox.get(what.mailbox) ?? []) tell(one, what);
    },
    expire() {
      const all = [...byId.values()];
      byId.clear();
      byMailbox.clear();
      for (const stream of streams) stream.close(all.filter((one) => one.stream === stream));
    },
  };
}

function tell(one: Subscription, what: Happening): void {
  const { folders, events } = one;
  const here = !folders || folders.has(what.folder) || (what.before !== undefined && folders.has(what.before.folder));
  if (!here || !events.has(`${what.kind}Event`)) return;
  if (one.waiting.length >= MOST_WAITING) one.missed = true;
  const number = ++one.told;
  one.waiting.push({ number, xml: eventXml(what, one.kind === "pull" ? watermark(number) : undefined) });
  one.stream?.wake(one);
}

/** The watermark of an event, or of a subscription that has told so many. */
export function watermark(number: number): string {
  return Buffer.from(`AQAAAWM${String(number).padStart(12, "0")}`).toString("base64");
}

export function watermarkNumber(text: string): number {
  return Number(Buffer.from(text, "base64").toString().slice(-12));
}

function eventXml({ kind, item, folder, before }: Happening, mark: string | undefined): string {
  const isFolder = "folderClass" in item;
  const name = isFolder ? "FolderId" : "ItemId";
  const parts = [
    mark === undefined ? "" : leaf("t:Watermark", mark),
    leaf("t:TimeStamp", moment(new Date())),
    tag(`t:${name}`, { Id: item.id, ChangeKey: changeKey(item) }),
    tag("t:ParentFolderId", { Id: folder.id, ChangeKey: changeKey(folder) }),
  ];
  if (before) {
    parts.push(tag(`t:Old${name}`, { Id: before.id, ChangeKey: changeKey(item) }));
    parts.push(tag("t:OldParentFolderId", { Id: before.folder.id, ChangeKey: changeKey(before.folder) }));
  }
  return tag(`t:${kind}Event`, {}, ...parts);
}
