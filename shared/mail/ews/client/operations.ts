/** EWS operations written by hand, since the library's answers are whole trees in memory: a request, and its answers one by one. */
import type { FolderId } from "ews-javascript-api";
import type { Problem } from "../../../contract/problem.ts";
import { type Element, elementsOf } from "../soap/elements.ts";
import { escaped, unreadable } from "../soap/xml.ts";
import { saidBy } from "../soap/notifications.ts";
import { problemOfCode } from "../soap/errors.ts";
import type { EwsSession } from "./session.ts";

const NAMESPACES =
  'xmlns:m="http://schemas.microsoft.com/exchange/services/2006/messages" xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types"';

/** `name` as in messages.xsd, `attributes` of its element, `content` inside it. */
export type Operation = { name: string; attributes?: string; content: string };

/** The answer to one part of a request. A problem is that part's alone. */
export type Answer = { message: Element; code: string; problem: Problem | null };

/**
 * Asks, and yields one answer for each part of the request, in its order, while they are still coming in. Take them without asking
 * for anything else meanwhile: until the last one the request has one of the account's few turns.
 */
export async function* answersTo(
  session: EwsSession,
  operation: Operation,
  signal: AbortSignal,
): AsyncGenerator<Answer, void, undefined> {
  const { name } = operation;
  const chunks = await session.raw(name, bodyOf(operation), signal, { flowing: false });
  let some = false;
  for await (const message of elementsOf(chunks, { names: [`${name}ResponseMessage`, "Fault"] })) {
    some = true;
    const said = saidBy(message);
    const { code, words, backOffMs } = said;
    const failed = message.name === "Fault" || message.attributes["ResponseClass"] === "Error";
    const fault = { code, words, ...(backOffMs !== null && { backOffMs }) };
    yield { message, code, problem: failed ? problemOfCode(fault) : null };
  }
  if (!some) throw unreadable("nothing");
}

/** The operation as what stands inside soap:Body. */
export function bodyOf({ name, attributes = "", content }: Operation): string {
  return `<m:${name} ${NAMESPACES}${attributes}>${content}</m:${name}>`;
}

/** The answer to a request of one part; throws its Problem. */
export async function answerTo(session: EwsSession, operation: Operation, signal: AbortSignal): Promise<Element> {
  let only: Answer | undefined;
  // To the end: an answer that is left half read costs its connection.
  for await (const answer of answersTo(session, operation, signal)) only ??= answer;
  if (!only) throw unreadable("nothing");
  if (only.problem) throw only.problem;
  return only.message;
}

/** The element that names a folder, with its owner where the login has access by delegation. */
export function folderXml({ library }: EwsSession, folder: FolderId): string {
  if (folder.UniqueId) return `<t:FolderId Id="${escaped(folder.UniqueId)}"/>`;
  const name = library.WellKnownFolderName[folder.FolderName].toLowerCase();
  const address = folder.Mailbox?.Address;
  const owner = address ? `<t:Mailbox><t:EmailAddress>${escaped(address)}</t:EmailAddress></t:Mailbox>` : "";
  return `<t:DistinguishedFolderId Id="${escaped(name)}">${owner}</t:DistinguishedFolderId>`;
}

/** The elements that name messages. */
export function itemsXml(keys: readonly string[]): string {
  return `<m:ItemIds>${keys.map((key) => `<t:ItemId Id="${escaped(key)}"/>`).join("")}</m:ItemIds>`;
}

/** What is asked of each item or folder beside its id. */
export function fieldsXml(fields: readonly string[]): string {
  const uris = fields.map((field) => `<t:FieldURI FieldURI="${field}"/>`).join("");
  return `<t:BaseShape>IdOnly</t:BaseShape><t:AdditionalProperties>${uris}</t:AdditionalProperties>`;
}
