/** What a message is beside a letter: written by a machine, an invitation, or closed by S/MIME or PGP. */
import type * as v from "valibot";
import type { Calendar, ParsedMessage } from "../../contract/received.ts";
import type { Content } from "./content.ts";
import type { Field } from "./header.ts";
import type { Part } from "./tree.ts";

type Automatic = ParsedMessage["automatic"];

/**
 * Signs of automatic mail, the surest first: the first that holds decides. RFC 3834 (Auto-Submitted), then what vacation
 * programs and Exchange write, lists (RFC 2369, RFC 2919) and bulk senders, and the null return path of bounces (RFC 5321).
 */
const SIGNS: { fields: string[]; value: RegExp; means: Exclude<Automatic, null> }[] = [
  { fields: ["auto-submitted"], value: /^\s*auto-replied\b/i, means: "auto-replied" },
  { fields: ["auto-submitted"], value: /^\s*(?!no\b)[a-z]/i, means: "auto-generated" },
  { fields: ["x-autoreply", "x-autorespond", "x-auto-reply"], value: /^\s*(?!no\b)/i, means: "auto-replied" },
  { fields: ["precedence", "x-precedence"], value: /^\s*auto.?reply/i, means: "auto-replied" },
  { fields: ["precedence", "x-precedence"], value: /^\s*(bulk|list|junk)\b/i, means: "bulk" },
  { fields: ["list-id", "list-unsubscribe", "list-post", "list-help", "feedback-id"], value: /\S/, means: "bulk" },
  { fields: ["x-auto-response-suppress"], value: /\b(all|oof|autoreply)\b/i, means: "auto-generated" },
  { fields: ["return-path"], value: /^\s*<\s*>/, means: "auto-generated" },
];

/** Who or what wrote the message, null for a person as far as its header tells. */
export function automaticSign(fields: Field[]): Automatic {
  for (const sign of SIGNS) {
    const found = fields.some((field) => sign.fields.includes(field.name) && sign.value.test(field.value));
    if (found) return sign.means;
  }
  return null;
}

/** The invitation: METHOD from the part or from its content, UID of its first event, unfolded (RFC 5545 section 3.1). */
export function calendarSign(calendar: Content["calendar"]): v.InferOutput<typeof Calendar> | null {
  if (!calendar) return null;
  const unfolded = calendar.content.slice(0, 262_144).replace(/\r?\n[ \t]/g, "");
  const method = calendar.method ?? /^METHOD:([^\r\n]*)/im.exec(unfolded)?.[1]?.trim().toUpperCase() ?? null;
  const uid = /^UID(?:;[^:\r\n]*)?:([^\r\n]*)/im.exec(unfolded)?.[1]?.trim() ?? null;
  return { method, uid, content: calendar.content };
}

/** Whether the content is closed to us: S/MIME (RFC 8551) or PGP (RFC 3156) by its content type. Signed alone is not. */
export function encryptedSign(root: Part): ParsedMessage["encrypted"] {
  const { type, params } = root.media;
  if (/^application\/(x-)?pkcs7-mime$/.test(type)) return "smime";
  if (type !== "multipart/encrypted") return null;
  return /pkcs7/i.test(params.get("protocol") ?? "") ? "smime" : "pgp";
}
