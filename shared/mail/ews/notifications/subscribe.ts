/**
 * Subscriptions to folders: Subscribe, GetEvents, Unsubscribe. Written by hand, because each of the library's objects
 * holds a whole service.
 */
import type { FolderId } from "ews-javascript-api";
import { Problem } from "../../../contract/problem.ts";
import { type XmlElement, readElements, findText } from "../soap/elements.ts";
import { escapeXml, protocolProblem } from "../soap/xml.ts";
import { type EwsNotification, parseNotifications, parseResponseStatus } from "../soap/notifications.ts";
import { problemFromCode } from "../soap/errors.ts";
import { operationXml, folderXml } from "../client/operations.ts";
import type { EwsSession } from "../client/session.ts";

/**
 * Folders of one mailbox. `all` means those of the login or of the mailbox that it impersonates. With access by
 * delegation the folders must be named.
 */
export type Folders = FolderId[] | "all";

/** New mail, and everything else that puts a message into a folder: rules, other programs, people. */
const EVENTS = ["NewMailEvent", "CreatedEvent", "MovedEvent", "CopiedEvent"];

/** How long the server keeps a pull subscription without a request, in minutes. */
const PULL_MINUTES = 30;

/**
 * Headers that keep a group of subscriptions and their connection on one server. The anchor also selects the cookies.
 */
export function affinityHeaders(anchor: string): Record<string, string> {
  return { "X-AnchorMailbox": anchor, "X-PreferServerAffinity": "true" };
}

/** Makes a streaming subscription and resolves with its id. From then on its stream reports everything. */
export async function subscribeStreaming(
  session: EwsSession,
  folders: Folders,
  anchor: string,
  signal: AbortSignal,
): Promise<string> {
  const body = subscribeXml(session, "StreamingSubscriptionRequest", folders, "");
  const answer = await requestEnvelope(session, { what: "Subscribe", body, anchor }, signal);
  return findText(answer, "SubscriptionId") ?? "";
}

/** A position in a pull subscription: its id and how far its events were read. */
export type PullPosition = { id: string; watermark: string };

export async function subscribePull(session: EwsSession, folders: Folders, signal: AbortSignal): Promise<PullPosition> {
  const body = subscribeXml(session, "PullSubscriptionRequest", folders, `<t:Timeout>${PULL_MINUTES}</t:Timeout>`);
  const answer = await requestEnvelope(session, { what: "Subscribe", body, anchor: session.anchor }, signal);
  return { id: findText(answer, "SubscriptionId") ?? "", watermark: findText(answer, "Watermark") ?? "" };
}

/** What happened since the watermark. */
export async function getEvents(
  session: EwsSession,
  position: PullPosition,
  signal: AbortSignal,
): Promise<EwsNotification> {
  const content = `<m:SubscriptionId>${escapeXml(position.id)}</m:SubscriptionId><m:Watermark>${escapeXml(position.watermark)}</m:Watermark>`;
  const body = operationXml({ name: "GetEvents", content });
  const answer = await requestEnvelope(session, { what: "GetEvents", body, anchor: session.anchor }, signal);
  const [notice] = parseNotifications(answer);
  if (!notice) throw protocolProblem("something else");
  return notice;
}

/** Ends a subscription, so that it no longer counts. If that fails, the server ends it after half an hour. */
export async function unsubscribe(session: EwsSession, id: string, anchor: string, signal: AbortSignal): Promise<void> {
  const body = operationXml({ name: "Unsubscribe", content: `<m:SubscriptionId>${escapeXml(id)}</m:SubscriptionId>` });
  try {
    await requestEnvelope(session, { what: "Unsubscribe", body, anchor }, signal);
  } catch (error) {
    if (!(error instanceof Problem) && error !== signal.reason) throw error;
  }
}

/** The request whose answer goes on for so many minutes (30 at most) and reports events of all these subscriptions. */
export function streamingEventsXml(ids: readonly string[], minutes: number): string {
  const list = ids.map((id) => `<t:SubscriptionId>${escapeXml(id)}</t:SubscriptionId>`).join("");
  const timeout = `<m:ConnectionTimeout>${minutes}</m:ConnectionTimeout>`;
  return operationXml({
    name: "GetStreamingEvents",
    content: `<m:SubscriptionIds>${list}</m:SubscriptionIds>${timeout}`,
  });
}

function subscribeXml(session: EwsSession, kind: string, folders: Folders, more: string): string {
  const all = folders === "all" ? ' SubscribeToAllFolders="true"' : "";
  const named =
    folders === "all" ? "" : `<t:FolderIds>${folders.map((one) => folderXml(session, one)).join("")}</t:FolderIds>`;
  const events = EVENTS.map((event) => `<t:EventType>${event}</t:EventType>`).join("");
  const request = `<m:${kind}${all}>${named}<t:EventTypes>${events}</t:EventTypes>${more}</m:${kind}>`;
  return operationXml({ name: "Subscribe", content: request });
}

type SubscriptionRequest = { what: string; body: string; anchor: string };

/** The one envelope that answers a request. Throws the Problem of its code. */
async function requestEnvelope(
  session: EwsSession,
  { what, body, anchor }: SubscriptionRequest,
  signal: AbortSignal,
): Promise<XmlElement> {
  const chunks = await session.postSoap(what, body, signal, { headers: affinityHeaders(anchor), flowing: false });
  let answer: XmlElement | undefined;
  for await (const envelope of readElements(chunks, { names: ["Envelope"] })) answer = envelope;
  if (!answer) throw protocolProblem("nothing");
  const status = parseResponseStatus(answer);
  if (status.code !== "NoError") throw problemFromCode(status);
  return answer;
}
