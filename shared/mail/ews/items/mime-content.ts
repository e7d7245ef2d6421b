/**
 * Downloads messages as RFC 822 bytes, several in one request. Their base64 is decoded as it arrives, so a message is
 * in memory once, and never as text.
 */
import { Problem } from "../../../contract/problem.ts";
import { maxBase64Bytes } from "../../net/excess.ts";
import { findElements, type XmlElement, readElements, findText, findElement } from "../soap/elements.ts";
import { parseResponseStatus } from "../soap/notifications.ts";
import { fetchInParts } from "./attachments.ts";
import { problemFromCode, getResponseCode } from "../soap/errors.ts";
import { operationXml, fieldsXml, itemsXml } from "../client/operations.ts";
import type { EwsSession } from "../client/session.ts";

/** Flags as in IMAP; categories as they are. `leftOut`: what the server does not give of the message. */
export type EwsMessage =
  | { id: string; raw: Uint8Array; flags: string[]; leftOut?: string[] }
  | { id: string; problem: Problem | "gone" };

const FIELDS = ["item:Categories", "item:IsDraft", "message:IsRead"];

/** The server has the message but cannot give it as MIME. Its parts may still be available. */
const MIME_UNAVAILABLE_CODES = new Set([
  "ErrorCorruptData",
  "ErrorItemCorrupt",
  "ErrorMimeContentConversionFailed",
  "ErrorMimeContentInvalid",
  "ErrorUnsupportedMimeConversion",
  "ErrorContentConversionFailed",
  "ErrorMessageSizeExceeded",
]);

/** Codes that concern one message, also if no other message of the request was given. */
const MESSAGE_CODES = new Set([
  ...MIME_UNAVAILABLE_CODES,
  "ErrorAccessDenied",
  "ErrorItemPropertyRequestFailed",
  "ErrorInvalidIdMalformed",
  "ErrorInvalidIdNotAnItemAttachmentId",
  "ErrorInvalidId",
  "ErrorInvalidPropertyRequest",
]);

/** These problems concern the login, whatever message was requested. */
const LOGIN_CODES = new Set<Problem["code"]>([
  "auth",
  "auth_method",
  "token",
  "no_mailbox",
  "throttled",
  "too_many_connections",
]);

/**
 * The messages of one request in its order, each as soon as it has arrived. Messages that the server cannot give as
 * MIME come after the others, assembled from their parts. The server waits while the caller does something else, so
 * read them quickly. An error in the answer for one message is that message's own if the same request brought another
 * message. Throws a Problem that concerns all of them; messages that were yielded before are complete. `announced` is
 * how many bytes the server said that all of them have.
 */
export async function* downloadMime(
  session: EwsSession,
  ids: readonly string[],
  signal: AbortSignal,
  announced = 0,
): AsyncGenerator<EwsMessage, void, undefined> {
  if (ids.length === 0) return;
  const maxBytes = maxBase64Bytes(announced);
  const chunks = await session.postSoap("Downloading", getItemXml(ids), signal, { maxBytes });
  const { intake } = session;
  const filter = { names: ["GetItemResponseMessage", "Fault"], base64: "MimeContent", announced, intake };
  const pendingIds = [...ids];
  const mimeUnavailable: string[] = [];
  const refused: { id: string; problem: Problem }[] = [];
  let given = 0;
  for await (const answer of readElements(chunks, filter)) {
    const status = parseResponseStatus(answer);
    // A fault is the answer to the whole request.
    if (answer.name === "Fault" && ids.length > 1) throw problemFromCode(status);
    const id = takeAnsweredId(pendingIds, answer);
    if (id === undefined) continue;
    const message = toMessage(id, answer);
    if (message === "no MIME") mimeUnavailable.push(id);
    else if ("raw" in message || message.problem === "gone") yield message;
    else if (isOwnProblem(message.problem)) yield { id, problem: toOwnProblem(message.problem) };
    else refused.push({ id, problem: message.problem });
    if (status.code === "NoError") given++;
  }
  for (const id of mimeUnavailable) yield* downloadInParts(session, id, signal);
  const decisive = refused.find(({ problem }) => given === 0 || LOGIN_CODES.has(problem.code));
  if (decisive) throw decisive.problem;
  for (const { id, problem } of refused) yield { id, problem: toOwnProblem(problem) };
  if (pendingIds.length > 0) throw new Problem("protocol", "Exchange did not answer for all messages");
}

/**
 * The requested id that an answer is for. Answers come in the order of the request (MS-OXWSCDATA), but a server may
 * leave one out, and then the next message must not be taken for the missing one.
 */
function takeAnsweredId(pendingIds: string[], answer: XmlElement): string | undefined {
  const named = pendingIds.indexOf(findElement(answer, "ItemId")?.attributes["Id"] ?? "");
  return pendingIds.splice(Math.max(0, named), 1)[0];
}

function getItemXml(ids: readonly string[]): string {
  const shape = fieldsXml(FIELDS).replace(
    "<t:AdditionalProperties>",
    "<t:IncludeMimeContent>true</t:IncludeMimeContent>$&",
  );
  return operationXml({ name: "GetItem", content: `<m:ItemShape>${shape}</m:ItemShape>${itemsXml(ids)}` });
}

function toMessage(id: string, answer: XmlElement): EwsMessage | "no MIME" {
  const status = parseResponseStatus(answer);
  if (MIME_UNAVAILABLE_CODES.has(status.code)) return "no MIME";
  if (status.code === "ErrorItemNotFound") return { id, problem: "gone" };
  if (status.code !== "NoError") return { id, problem: problemFromCode(status) };
  const raw = findElement(answer, "MimeContent")?.bytes;
  return raw && raw.length > 0 ? { id, raw, flags: getFlags(answer) } : "no MIME";
}

async function* downloadInParts(
  session: EwsSession,
  id: string,
  signal: AbortSignal,
): AsyncGenerator<EwsMessage, void, undefined> {
  try {
    const { raw, item, leftOut } = await fetchInParts(session, { id, fields: FIELDS }, signal);
    yield { id, raw, flags: getFlags(item), ...(leftOut.length > 0 && { leftOut }) };
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    if (getResponseCode(error) === "ErrorItemNotFound") yield { id, problem: "gone" };
    else if (isOwnProblem(error)) yield { id, problem: toOwnProblem(error) };
    else throw error;
  }
}

/** True if the problem is about one message, whatever became of others. */
function isOwnProblem(problem: Problem): boolean {
  return problem.code === "message" || MESSAGE_CODES.has(getResponseCode(problem));
}

function toOwnProblem({ evidence }: Problem): Problem {
  return new Problem("message", "The server does not give this message", evidence === null ? {} : { evidence });
}

function getFlags(answer: XmlElement): string[] {
  const categories = findElement(answer, "Categories");
  return [
    ...(findText(answer, "IsRead") === "true" ? ["\\Seen"] : []),
    ...(findText(answer, "IsDraft") === "true" ? ["\\Draft"] : []),
    ...(categories ? findElements(categories, "String").map(({ text }) => text.trim()) : []),
  ];
}
