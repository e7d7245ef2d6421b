/** A CRM's SendCommand as a message to send. */
import * as v from "valibot";
import { IMPORTANCE } from "../../../shared/contract/creatio.ts";
import { OutgoingMessage } from "../../../shared/contract/outgoing.ts";
import type { FieldError } from "../../../shared/contract/problem.ts";
import { checkHeaders } from "../../../shared/mail/smtp/headers.ts";
import { parsed } from "../../http/route.ts";
import { flag, list, member, number, text, words } from "./members.ts";

const MESSAGE_ID = /^<[^\s<>@]+@[^\s<>@]+>$/;
const IMPORTANCES = new Map<number, "low" | "normal" | "high">([
  [IMPORTANCE.low, "low"],
  [IMPORTANCE.high, "high"],
]);

/** The message; throws `invalid` for what no message can have. Attachments come with the mail, in version 1 with the command. */
export function outgoingOf(command: unknown): OutgoingMessage {
  const email = member(command, "Email");
  const body = (words(email, "Body") ?? "").replaceAll("\0", "");
  const headers = headersOf(list(email, "Headers") ?? []);
  const inReplyTo = idsIn(text(email, "InReplyTo") ?? headers.get("inreplyto") ?? headers.get("in-reply-to"))[0];
  const references = idsIn(text(email, "References") ?? headers.get("references"));
  const messageId = idsIn(bracketed(text(email, "Id") ?? text(email, "MessageId") ?? headers.get("messageid")))[0];
  const importance = IMPORTANCES.get(number(email, "Importance") ?? IMPORTANCE.normal);
  const from = oneLine(text(email, "Sender") ?? "");
  return parsed(OutgoingMessage, {
    ...(from !== "" && { from }),
    to: peopleIn(list(email, "Recepients")),
    cc: peopleIn(list(email, "CopyRecepients")),
    bcc: peopleIn(list(email, "BlindCopyRecepients")),
    subject: oneLine(words(email, "Subject") ?? "").slice(0, 2000),
    ...(flag(email, "IsHtmlBody") === true ? { html: body } : { text: body }),
    attachments: filesOf(email, command, body),
    headers: ownHeaders(headers),
    ...(messageId !== undefined && { messageId }),
    ...(inReplyTo !== undefined && { inReplyTo }),
    ...(references.length > 0 && { references: references.slice(-100) }),
    ...(importance && { importance }),
  });
}

function oneLine(value: string): string {
  return value.replace(/[\r\n\0]+/g, " ").trim();
}

/** One each; older versions give them as they were typed, several in one text. */
function peopleIn(given: string[] | undefined): string[] {
  return (given ?? [])
    .flatMap((one) => (one.split("@").length > 2 ? one.split(/[;,]/) : [one.replace(/[;,\s]+$/, "")]))
    .map(oneLine)
    .filter((one) => one !== "");
}

/** `Name=Value` by the name in lower case; the first of a name counts. */
function headersOf(lines: string[]): Map<string, string> {
  const found = new Map<string, string>();
  for (const line of lines) {
    const [, name = "", value = ""] = /^([^=:]+)[=:]([^]*)$/.exec(line) ?? [];
    const key = name.trim().toLowerCase();
    if (key !== "" && !found.has(key)) found.set(key, oneLine(value));
  }
  return found;
}

/** Those that may be given; the CRM's internal ones, and what the composer writes itself, are left out. */
function ownHeaders(headers: Map<string, string>): Record<string, string> {
  const internal = new Set(["messageid", "inreplyto"]);
  const entries = [...headers].filter(([name, value]) => {
    if (internal.has(name) || value === "" || !v.is(OutgoingMessage.entries.headers, { [name]: value })) return false;
    const errors: FieldError[] = [];
    checkHeaders({ [name]: value }, errors);
    return errors.length === 0;
  });
  return Object.fromEntries(entries.map(([name, value]) => [titled(name), value]));
}

function titled(name: string): string {
  return name.replace(/(^|-)([a-z])/g, (_, dash: string, letter: string) => dash + letter.toUpperCase());
}

function idsIn(value: string | undefined): string[] {
  return (value ?? "").split(/[\s,]+/).filter((id) => MESSAGE_ID.test(id));
}

function bracketed(id: string | undefined): string | undefined {
  return id === undefined || id.startsWith("<") ? id : `<${id}>`;
}

/** Files of the mail and of the command, each once. One that the body shows keeps its id, which the body's `cid:` names. */
function filesOf(email: unknown, command: unknown, body: string) {
  const lists = [member(email, "Attachments"), member(command, "Attachments")];
  const seen = new Set<string>();
  return lists
    .flatMap((one) => (Array.isArray(one) ? (one as unknown[]) : []))
    .flatMap((file) => {
      const id = text(file, "Id") ?? "";
      if (id !== "" && seen.has(id)) return [];
      seen.add(id);
      const inline = id !== "" && (flag(file, "IsInline") === true || body.includes(`cid:${id}`));
      const filename = oneLine(text(file, "Name") ?? "").slice(-255);
      return [
        {
          ...(filename !== "" && { filename }),
          ...(inline && { contentId: id.replace(/^<|>$/g, "") }),
          disposition: inline ? ("inline" as const) : ("attachment" as const),
          content: words(file, "Base64Data") ?? words(file, "Data") ?? "",
        },
      ];
    });
}
