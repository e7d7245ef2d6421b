/** Messages as RFC 822 bytes, several in one request, their base64 decoded while it comes: a message is in memory once, and never as text. */
import { Problem } from "../../contract/problem.ts";
import { allWithin, type Element, elementsOf, textWithin, within } from "./envelopes.ts";
import { escaped } from "./markup.ts";
import { saidBy } from "./notices.ts";
import { problemOfCode } from "./problems.ts";
import type { EwsSession } from "./session.ts";

/** Flags as IMAP names them; categories as they are. */
export type EwsMessage = { id: string; raw: Uint8Array; flags: string[] } | { id: string; problem: Problem | "gone" };

const NAMESPACES =
  'xmlns:m="http://schemas.microsoft.com/exchange/services/2006/messages" xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types"';
const PROPERTIES = ["item:Categories", "item:IsDraft", "message:IsRead"];

/** Codes that are about the one message. Others are about the mailbox or the server, and end the whole request. */
const ABOUT_THE_MESSAGE = new Set([
  "ErrorMimeContentConversionFailed",
  "ErrorMimeContentInvalid",
  "ErrorContentConversionFailed",
  "ErrorCorruptData",
  "ErrorItemCorrupt",
  "ErrorItemPropertyRequestFailed",
  "ErrorInvalidIdMalformed",
  "ErrorInvalidIdNotAnItemAttachmentId",
  "ErrorInvalidId",
  "ErrorMessageSizeExceeded",
  "ErrorUnsupportedMimeConversion",
  "ErrorInvalidPropertyRequest",
  "ErrorItemNotFound",
]);

/**
 * The messages of one request in its order, each as soon as it is there. The server waits while the caller does something else, so
 * take them quickly. Throws a Problem for what concerns all of them; those that were yielded are whole.
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
  for await (const answer of elementsOf(chunks, wanted)) {
    const id = waiting.shift();
    if (id !== undefined) yield messageOf(id, answer);
  }
  if (waiting.length > 0) throw new Problem("protocol", "Exchange did not answer for all of the messages");
}

function request(ids: readonly string[]): string {
  const properties = PROPERTIES.map((name) => `<t:FieldURI FieldURI="${name}"/>`).join("");
  const shape = `<t:BaseShape>IdOnly</t:BaseShape><t:IncludeMimeContent>true</t:IncludeMimeContent><t:AdditionalProperties>${properties}</t:AdditionalProperties>`;
  const items = ids.map((id) => `<t:ItemId Id="${escaped(id)}"/>`).join("");
  return `<m:GetItem ${NAMESPACES}><m:ItemShape>${shape}</m:ItemShape><m:ItemIds>${items}</m:ItemIds></m:GetItem>`;
}

function messageOf(id: string, answer: Element): EwsMessage {
  const said = saidBy(answer);
  if (said.code === "ErrorItemNotFound") return { id, problem: "gone" };
  if (said.code !== "NoError") return { id, problem: aboutTheMessage(said) };
  const raw = within(answer, "MimeContent")?.bytes;
  if (raw && raw.length > 0) return { id, raw, flags: flagsOf(answer) };
  return { id, problem: new Problem("message", "The server gave no content for this message") };
}

function aboutTheMessage(said: ReturnType<typeof saidBy>): Problem {
  const problem = problemOfCode(said);
  if (!ABOUT_THE_MESSAGE.has(said.code)) throw problem;
  const evidence = problem.evidence === null ? {} : { evidence: problem.evidence };
  return new Problem("message", "The server does not give this message", evidence);
}

function flagsOf(answer: Element): string[] {
  const categories = within(answer, "Categories");
  return [
    ...(textWithin(answer, "IsRead") === "true" ? ["\\Seen"] : []),
    ...(textWithin(answer, "IsDraft") === "true" ? ["\\Draft"] : []),
    ...(categories ? allWithin(categories, "String").map(({ text }) => text.trim()) : []),
  ];
}
