/**
 * EWS operations written by hand, because the library holds whole answers as trees in memory: a request, and its
 * answers one by one.
 */
import type { FolderId } from "ews-javascript-api";
import type { Problem } from "../../../contract/problem.ts";
import { type XmlElement, readElements } from "../soap/elements.ts";
import { escapeXml, protocolProblem } from "../soap/xml.ts";
import { parseResponseStatus } from "../soap/notifications.ts";
import { problemFromCode } from "../soap/errors.ts";
import type { EwsSession } from "./session.ts";

const NAMESPACES =
  'xmlns:m="http://schemas.microsoft.com/exchange/services/2006/messages" xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types"';

/** `name` as in messages.xsd, `attributes` of its element, `content` inside it. */
export type Operation = { name: string; attributes?: string; content: string };

/** The answer to one part of a request. A problem concerns only that part. */
export type ResponseMessage = { message: XmlElement; code: string; problem: Problem | null };

/**
 * Sends a request and yields one answer for each of its parts, in order, while they arrive. Read them without making
 * other requests meanwhile: until the last one, the request holds one of the login's few places.
 */
export async function* streamResponses(
  session: EwsSession,
  operation: Operation,
  signal: AbortSignal,
): AsyncGenerator<ResponseMessage, void, undefined> {
  const { name } = operation;
  const chunks = await session.postSoap(name, operationXml(operation), signal, { flowing: false });
  let some = false;
  for await (const message of readElements(chunks, {
    names: [`${name}ResponseMessage`, "Fault"],
    intake: session.intake,
  })) {
    some = true;
    const status = parseResponseStatus(message);
    const { code, backOffMs } = status;
    const failed = message.name === "Fault" || message.attributes["ResponseClass"] === "Error";
    const fault = { code, ...(backOffMs !== null && { backOffMs }) };
    yield { message, code, problem: failed ? problemFromCode(fault) : null };
  }
  if (!some) throw protocolProblem("nothing");
}

/** The operation as the content of soap:Body. */
export function operationXml({ name, attributes = "", content }: Operation): string {
  return `<m:${name} ${NAMESPACES}${attributes}>${content}</m:${name}>`;
}

/** The answer to a request with one part. Throws its Problem. */
export async function executeOperation(
  session: EwsSession,
  operation: Operation,
  signal: AbortSignal,
): Promise<XmlElement> {
  let only: ResponseMessage | undefined;
  // Read to the end, because a partly read answer costs its connection.
  for await (const answer of streamResponses(session, operation, signal)) only ??= answer;
  if (!only) throw protocolProblem("nothing");
  if (only.problem) throw only.problem;
  return only.message;
}

/** The element that names a folder, with its owner if the login has access by delegation. */
export function folderXml({ library }: EwsSession, folder: FolderId): string {
  if (folder.UniqueId) return `<t:FolderId Id="${escapeXml(folder.UniqueId)}"/>`;
  const name = library.WellKnownFolderName[folder.FolderName].toLowerCase();
  const address = folder.Mailbox?.Address;
  const owner = address ? `<t:Mailbox><t:EmailAddress>${escapeXml(address)}</t:EmailAddress></t:Mailbox>` : "";
  return `<t:DistinguishedFolderId Id="${escapeXml(name)}">${owner}</t:DistinguishedFolderId>`;
}

/** The elements that name messages. */
export function itemsXml(keys: readonly string[]): string {
  return `<m:ItemIds>${keys.map((key) => `<t:ItemId Id="${escapeXml(key)}"/>`).join("")}</m:ItemIds>`;
}

/** The fields to return for each item or folder besides its id. */
export function fieldsXml(fields: readonly string[]): string {
  const uris = fields.map((field) => `<t:FieldURI FieldURI="${field}"/>`).join("");
  return `<t:BaseShape>IdOnly</t:BaseShape><t:AdditionalProperties>${uris}</t:AdditionalProperties>`;
}
