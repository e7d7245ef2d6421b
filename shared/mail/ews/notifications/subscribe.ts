/** Subscriptions to what appears in folders: made, asked, given up. Written by hand, as the library's objects each hold a whole service. */
import type { FolderId } from "ews-javascript-api";
import { Problem } from "../../../contract/problem.ts";
import { type Element, elementsOf, textWithin } from "../soap/elements.ts";
import { escaped, unreadable } from "../soap/xml.ts";
import { type Notice, noticesIn, saidBy } from "../soap/notifications.ts";
import { problemOfCode } from "../soap/errors.ts";
import { bodyOf, folderXml } from "../client/operations.ts";
import type { EwsSession } from "../client/session.ts";

/** Folders of one mailbox; `all` of the login's own, or of the one it acts as (with access by delegation they must be named). */
export type Folders = FolderId[] | "all";

/** New mail, and whatever else puts a message into a folder: rules, other programs, people. */
const EVENTS = ["NewMailEvent", "CreatedEvent", "MovedEvent", "CopiedEvent"];

/** How long the server keeps a pull subscription that nobody asks about, in minutes. */
const PULL_MINUTES = 30;

/** What keeps a group of subscriptions and the connection that hears them on one server, whose cookie goes with the anchor. */
export function affinity(anchor: string): Record<string, string> {
  return { "X-AnchorMailbox": anchor, "X-PreferServerAffinity": "true" };
}

/** A streaming subscription; resolves with its id. Nothing that happens from then on is missed by who hears it. */
export async function subscribed(
  session: EwsSession,
  folders: Folders,
  anchor: string,
  signal: AbortSignal,
): Promise<string> {
  const body = subscribe(session, "StreamingSubscriptionRequest", folders, "");
  const answer = await answered(session, { what: "Subscribe", body, anchor }, signal);
  return textWithin(answer, "SubscriptionId") ?? "";
}

/** A place in a stream of events: the subscription and how far its events were taken. */
export type Pulled = { id: string; watermark: string };

export async function pullSubscribed(session: EwsSession, folders: Folders, signal: AbortSignal): Promise<Pulled> {
  const body = subscribe(session, "PullSubscriptionRequest", folders, `<t:Timeout>${PULL_MINUTES}</t:Timeout>`);
  const answer = await answered(session, { what: "Subscribe", body, anchor: session.anchor }, signal);
  return { id: textWithin(answer, "SubscriptionId") ?? "", watermark: textWithin(answer, "Watermark") ?? "" };
}

/** What happened since the watermark. */
export async function pulled(session: EwsSession, at: Pulled, signal: AbortSignal): Promise<Notice> {
  const place = `<m:SubscriptionId>${escaped(at.id)}</m:SubscriptionId><m:Watermark>${escaped(at.watermark)}</m:Watermark>`;
  const body = bodyOf({ name: "GetEvents", content: place });
  const answer = await answered(session, { what: "GetEvents", body, anchor: session.anchor }, signal);
  const [notice] = noticesIn(answer);
  if (!notice) throw unreadable("something else");
  return notice;
}

/** Gives a subscription up, so that it does not count any more. If that fails it ends by itself in half an hour. */
export async function unsubscribed(
  session: EwsSession,
  id: string,
  anchor: string,
  signal: AbortSignal,
): Promise<void> {
  const body = bodyOf({ name: "Unsubscribe", content: `<m:SubscriptionId>${escaped(id)}</m:SubscriptionId>` });
  try {
    await answered(session, { what: "Unsubscribe", body, anchor }, signal);
  } catch (error) {
    if (!(error instanceof Problem) && error !== signal.reason) throw error;
  }
}

/** The request whose answer goes on for so many minutes (30 at most), whenever something happens to any of the subscriptions. */
export function streamRequest(ids: readonly string[], minutes: number): string {
  const list = ids.map((id) => `<t:SubscriptionId>${escaped(id)}</t:SubscriptionId>`).join("");
  const timeout = `<m:ConnectionTimeout>${minutes}</m:ConnectionTimeout>`;
  return bodyOf({ name: "GetStreamingEvents", content: `<m:SubscriptionIds>${list}</m:SubscriptionIds>${timeout}` });
}

function subscribe(session: EwsSession, kind: string, folders: Folders, more: string): string {
  const all = folders === "all" ? ' SubscribeToAllFolders="true"' : "";
  const named =
    folders === "all" ? "" : `<t:FolderIds>${folders.map((one) => folderXml(session, one)).join("")}</t:FolderIds>`;
  const events = EVENTS.map((event) => `<t:EventType>${event}</t:EventType>`).join("");
  const request = `<m:${kind}${all}>${named}<t:EventTypes>${events}</t:EventTypes>${more}</m:${kind}>`;
  return bodyOf({ name: "Subscribe", content: request });
}

type Asked = { what: string; body: string; anchor: string };

/** The one envelope that answers a request; throws the Problem that its code stands for. */
async function answered(session: EwsSession, { what, body, anchor }: Asked, signal: AbortSignal): Promise<Element> {
  const chunks = await session.raw(what, body, signal, { headers: affinity(anchor), flowing: false });
  let answer: Element | undefined;
  for await (const envelope of elementsOf(chunks, { names: ["Envelope"] })) answer = envelope;
  if (!answer) throw unreadable("nothing");
  const said = saidBy(answer);
  if (said.code !== "NoError") throw problemOfCode(said);
  return answer;
}
