/** Messages as RFC 822 bytes, several in one request, their base64 decoded while it comes: a message is in memory once, and never as text. */
import { Problem } from "../../../contract/problem.ts";
import { codeOf } from "../notifications/failure-kinds.ts";
import { allWithin, type Element, elementsOf, textWithin, within } from "../soap/elements.ts";
import { saidBy } from "../soap/notifications.ts";
import { inParts } from "./attachments.ts";
import { problemOfCode } from "../soap/errors.ts";
import { bodyOf, fieldsXml, itemsXml } from "../client/operations.ts";
import type { EwsSession } from "../client/session.ts";

/** Flags as IMAP names them; categories as they are. */
export type EwsMessage = { id: string; raw: Uint8Array; flags: string[] } | { id: string; problem: Problem | "gone" };

const FIELDS = ["item:Categories", "item:IsDraft", "message:IsRead"];

/** The server has the message and cannot give it as MIME: its parts may still be had. */
const NOT_WHOLE = new Set([
  "ErrorMimeContentConversionFailed",
  "ErrorMimeContentInvalid",
  "ErrorUnsupportedMimeConversion",
  "ErrorContentConversionFailed",
  "ErrorMessageSizeExceeded",
]);

/** Codes that are about the one message. Others are about the mailbox or the server, and end the whole request. */
const ABOUT_THE_MESSAGE = new Set([
  ...NOT_WHOLE,
  "ErrorCorruptData",
  "ErrorItemCorrupt",
  "ErrorItemPropertyRequestFailed",
  "ErrorInvalidIdMalformed",
  "ErrorInvalidIdNotAnItemAttachmentId",
  "ErrorInvalidId",
  "ErrorInvalidPropertyRequest",
]);

/**
 * The messages of one request in its order, each as soon as it is there; those that the server cannot give as a whole come after the
 * others, put together from their parts. The server waits while the caller does something else, so take them quickly. Throws a Problem
 * for what concerns all of them; those that were yielded are whole.
 */
export async function* mimeOf(
  session: EwsSession,
  ids: readonly string[],
  signal: AbortSignal,
): AsyncGenerator<EwsMessage, void, undefined> {
  if (ids.length === 0) return;
  const chunks = await session.raw("Downloading", request(ids), signal);
  const wanted = { names: ["GetItemResponseMessage", "Fault"], base64: "MimeContent" };
  const waiting = [...ids];
  const notWhole: string[] = [];
  for await (const answer of elementsOf(chunks, wanted)) {
    const id = waiting.shift();
    if (id === undefined) continue;
    if (NOT_WHOLE.has(saidBy(answer).code)) notWhole.push(id);
    else yield messageOf(id, answer);
  }
  if (waiting.length > 0) throw new Problem("protocol", "Exchange did not answer for all of the messages");
  for (const id of notWhole) yield* partly(session, id, signal);
}

function request(ids: readonly string[]): string {
  const shape = fieldsXml(FIELDS).replace(
    "<t:AdditionalProperties>",
    "<t:IncludeMimeContent>true</t:IncludeMimeContent>$&",
  );
  return bodyOf({ name: "GetItem", content: `<m:ItemShape>${shape}</m:ItemShape>${itemsXml(ids)}` });
}

function messageOf(id: string, answer: Element): EwsMessage {
  const said = saidBy(answer);
  if (said.code !== "NoError") return { id, problem: aboutTheMessage(problemOfCode(said)) };
  const raw = within(answer, "MimeContent")?.bytes;
  if (raw && raw.length > 0) return { id, raw, flags: flagsOf(answer) };
  return { id, problem: new Problem("message", "The server gave no content for this message") };
}

async function* partly(
  session: EwsSession,
  id: string,
  signal: AbortSignal,
): AsyncGenerator<EwsMessage, void, undefined> {
  try {
    const { raw, item } = await inParts(session, { id, fields: FIELDS }, signal);
    yield { id, raw, flags: flagsOf(item) };
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    yield { id, problem: aboutTheMessage(error) };
  }
}

/** What the server says against this message; throws what it says against more than that. */
function aboutTheMessage(problem: Problem): Problem | "gone" {
  const { evidence } = problem;
  const code = codeOf(problem);
  if (code === "ErrorItemNotFound") return "gone";
  if (problem.code !== "message" && !ABOUT_THE_MESSAGE.has(code)) throw problem;
  return new Problem("message", "The server does not give this message", evidence === null ? {} : { evidence });
}

function flagsOf(answer: Element): string[] {
  const categories = within(answer, "Categories");
  return [
    ...(textWithin(answer, "IsRead") === "true" ? ["\\Seen"] : []),
    ...(textWithin(answer, "IsDraft") === "true" ? ["\\Draft"] : []),
    ...(categories ? allWithin(categories, "String").map(({ text }) => text.trim()) : []),
  ];
}
