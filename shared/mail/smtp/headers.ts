/** Headers a client may add to a message, and those it may not because the composer answers for them. */
import type { FieldError } from "../../contract/problem.ts";

const MEMBER = "the composer writes it; use the member of the body";
const OURS = "the composer writes it";

/** Why a header cannot be given: it would contradict the envelope, the structure or the signature. */
const OWNED: Record<string, string> = {
  from: MEMBER,
  to: MEMBER,
  cc: MEMBER,
  bcc: MEMBER,
  "reply-to": MEMBER,
  subject: MEMBER,
  "message-id": MEMBER,
  "in-reply-to": MEMBER,
  references: MEMBER,
  importance: MEMBER,
  "x-priority": "use importance",
  "x-msmail-priority": "use importance",
  priority: "use importance",
  sender: "the sender is the mailbox",
  date: OURS,
  "mime-version": OURS,
  "return-path": "it is the receiving server's to write",
  received: "it is the servers' to write",
  "domainkey-signature": "signing is set up with send.dkim",
  "authentication-results": "it is the receiving server's to write",
};
const OWNED_FAMILIES: [RegExp, string][] = [
  [/^content-/, "the composer describes the content"],
  [/^dkim-/, "signing is set up with send.dkim"],
  [/^arc-/, "it is the servers' to write"],
  [/^resent-/, "it would name other recipients"],
  [/^(bcc|apparently-to|envelope-to|delivered-to|x-original-to)$/, "it would name other recipients"],
];

/** Adds an error for each header that is the composer's own. */
export function checkHeaders(headers: Record<string, unknown>, errors: FieldError[]): void {
  for (const name of Object.keys(headers)) {
    const lower = name.toLowerCase();
    const why = Object.hasOwn(OWNED, lower) ? OWNED[lower] : OWNED_FAMILIES.find(([family]) => family.test(lower))?.[1];
    if (why !== undefined) errors.push({ path: `headers.${name}`, message: `cannot be given: ${why}` });
  }
}

/** True for a message that says it was written by a machine (RFC 3834 section 5). */
export function isAutomatic(headers: Record<string, string | string[]>): boolean {
  const values = Object.entries(headers).find(([name]) => name.toLowerCase() === "auto-submitted")?.[1] ?? "no";
  return [values].flat().some((value) => !/^\s*no\b/i.test(value));
}
