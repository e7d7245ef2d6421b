/**
 * The message that a notification is about: the header of its copy, from an attached part or from the text that quotes
 * it.
 */
import { decodeContent } from "../content.ts";
import { type Field, fieldValue, readNestedHeader } from "../header.ts";
import type { LimitedReasons } from "../limits.ts";
import type { Part } from "../tree.ts";
import { parseMessageIds } from "../values/message-ids.ts";
import { findAddresses } from "./addresses.ts";

/** The relevant headers of the copy. `recipients` are from To, Cc and Bcc, in lower case; empty if there are none. */
export type ReturnedMessage = { messageId: string | null; recipients: string[] };

const RETURNED_MESSAGE =
  /^(message\/rfc822|message\/global|text\/rfc822-headers|text\/rfc822-header|message\/rfc822-headers|message\/global-headers)$/;
const HEADER_NAME =
  /^(return-path|received|message-id|dkim-signature|domainkey-signature|from|to|subject|date|mime-version|x-[a-z-]{1,60}):/i;
const MAX_RECIPIENTS = 1000;

/** Reads the copy of the message in `parts`, else the one in `pasted`, the rest of the notification's text. */
export function readReturnedMessage(parts: Part[], pasted: string, limited: LimitedReasons): ReturnedMessage {
  const part = parts.find(({ media }) => RETURNED_MESSAGE.test(media.type));
  const fields = part ? readCopy(decodeContent(part)) : readPasted(pasted);
  const addresses = ["to", "cc", "bcc", "x-apparently-to"].flatMap((name) =>
    fields.filter((field) => field.name === name).flatMap(({ value }) => findAddresses(value)),
  );
  return {
    messageId: parseMessageIds(fieldValue(fields, "message-id"), limited)[0] ?? null,
    recipients: [...new Set(addresses.slice(0, MAX_RECIPIENTS).map(({ address }) => address.toLowerCase()))],
  };
}

// Some servers put empty lines before the copy.
function readCopy(copy: Buffer): Field[] {
  let from = 0;
  while (copy[from] === 13 || copy[from] === 10 || copy[from] === 32) from++;
  return readNestedHeader(copy.subarray(from));
}

// Words may be between the line that announces the copy and its first field.
function readPasted(pasted: string): Field[] {
  const lines = pasted.split("\n");
  const first = lines.findIndex((line) => HEADER_NAME.test(line.slice(0, 100).trimStart()));
  if (first < 0) return [];
  const indent = /^\s*/.exec((lines[first] ?? "").slice(0, 40))?.[0] ?? "";
  const copy = lines.slice(first).map((line) => (line.startsWith(indent) ? line.slice(indent.length) : line));
  return readNestedHeader(Buffer.from(`${copy.join("\r\n")}\r\n`));
}
