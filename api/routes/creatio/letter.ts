/** Turns a CRM's SendCommand into a message to send. */
import * as v from "valibot";
import { IMPORTANCE } from "../../../shared/contract/creatio.ts";
import { OutgoingMessage } from "../../../shared/contract/outgoing.ts";
import type { FieldError } from "../../../shared/contract/problem.ts";
import { checkHeaders } from "../../../shared/mail/smtp/headers.ts";
import { parseInput } from "../../http/route.ts";
import { contentOf } from "./content.ts";
import { flag, textList, getMember, number, oneLine, text, rawText } from "./members.ts";

const MESSAGE_ID = /^<[^\s<>@]+@[^\s<>@]+>$/;
const IMPORTANCES = new Map<number, "low" | "normal" | "high">([
  [IMPORTANCE.low, "low"],
  [IMPORTANCE.high, "high"],
]);

/**
 * The message. Throws `invalid` for what no message can have. Attachments are in the mail, in version 1 also in the
 * command.
 */
export function outgoingMessageFrom(command: unknown): OutgoingMessage {
  const email = getMember(command, "Email");
  const { body, attachments } = contentOf(email, command);
  const headers = headersOf(textList(email, "Headers") ?? []);
  const inReplyTo = idsIn(text(email, "InReplyTo") ?? headers.get("inreplyto") ?? headers.get("in-reply-to"))[0];
  const references = idsIn(text(email, "References") ?? headers.get("references"));
  const ownIds = idsIn(text(email, "Id") ?? text(email, "MessageId") ?? headers.get("messageid"));
  const messageId = ownIds.find((id) => MESSAGE_ID.test(id));
  const importance = IMPORTANCES.get(number(email, "Importance") ?? IMPORTANCE.normal);
  const from = oneLine(text(email, "Sender") ?? "");
  return parseInput(OutgoingMessage, {
    ...(from !== "" && { from }),
    to: recipientsIn(textList(email, "Recepients")),
    cc: recipientsIn(textList(email, "CopyRecepients")),
    bcc: recipientsIn(textList(email, "BlindCopyRecepients")),
    subject: oneLine(rawText(email, "Subject") ?? "").slice(0, 2000),
    ...(flag(email, "IsHtmlBody") === true ? { html: body } : { text: body }),
    attachments,
    headers: allowedHeaders(headers),
    ...(messageId !== undefined && { messageId }),
    ...(inReplyTo !== undefined && { inReplyTo }),
    ...(references.length > 0 && { references: references.slice(-100) }),
    ...(importance && { importance }),
  });
}

/**
 * One address each. Older versions of the CRM send several in one text, as the user typed them. A separator counts
 * outside quotes and brackets, and only after an address, because names contain commas too.
 */
function recipientsIn(given: string[] | undefined): string[] {
  return (given ?? [])
    .map(oneLine)
    .flatMap(splitRecipients)
    .map((one) => one.trim())
    .filter((one) => one !== "");
}

const NOT_SEPARATING = /"(?:[^"\\]|\\.)*"|<[^<>]*>|\([^()]*\)/g;

function splitRecipients(typed: string): string[] {
  // Blanks of the same length, so that the separators keep their positions.
  const masked = typed.replace(NOT_SEPARATING, (part) => (part.startsWith("<") ? "@" : " ").padEnd(part.length, " "));
  const parts: string[] = [];
  let [start, sign] = [0, masked.indexOf("@")];
  for (const { index } of masked.matchAll(/[;,]/g)) {
    if (sign < 0 || sign > index) continue;
    parts.push(typed.slice(start, index));
    start = index + 1;
    sign = masked.indexOf("@", start);
  }
  let end = typed.length;
  while (end > start && /[;,\s]/.test(typed.charAt(end - 1))) end--;
  return [...parts, typed.slice(start, end)];
}

/** `Name=Value`, by the name in lower case. The first of a name counts. */
function headersOf(lines: string[]): Map<string, string> {
  const found = new Map<string, string>();
  for (const line of lines) {
    const [, name = "", value = ""] = /^([^=:]+)[=:]([^]*)$/.exec(line) ?? [];
    const key = name.trim().toLowerCase();
    if (key !== "" && !found.has(key)) found.set(key, oneLine(value));
  }
  return found;
}

/** The headers that may be set, without the CRM's internal ones and those that the composer writes itself. */
function allowedHeaders(headers: Map<string, string>): Record<string, string> {
  const internal = new Set(["messageid", "inreplyto"]);
  const entries = [...headers].filter(([name, value]) => {
    if (internal.has(name) || value === "" || !v.is(OutgoingMessage.entries.headers, { [name]: value })) return false;
    const errors: FieldError[] = [];
    checkHeaders({ [name]: value }, errors);
    return errors.length === 0;
  });
  return Object.fromEntries(entries.map(([name, value]) => [titleCase(name), value]));
}

function titleCase(name: string): string {
  return name.replace(/(^|-)([a-z])/g, (_, dash: string, letter: string) => dash + letter.toUpperCase());
}

/** The message ids in a value, whatever is in their brackets. Without any bracket, each word is one. */
function idsIn(value = ""): string[] {
  const inBrackets = value.match(/<[^<>]+>/g)?.map((id) => id.replace(/\s+/g, ""));
  const ids = inBrackets ?? value.split(/[\s,]+/).flatMap((word) => (/^[^<>]+$/.test(word) ? `<${word}>` : []));
  return ids.filter((id) => id.length <= 998);
}
