/** Which headers a client may add to a message. The composer is responsible for the others. */
import type { FieldError } from "../../contract/problem.ts";

const USE_BODY_MEMBER = "the service writes it; use the member of the body";
const WRITTEN_BY_COMPOSER = "the service writes it";

/** Why a header may not be set: it would contradict the envelope, the structure or the signature. */
const RESERVED_HEADERS: Record<string, string> = {
  from: USE_BODY_MEMBER,
  to: USE_BODY_MEMBER,
  cc: USE_BODY_MEMBER,
  bcc: USE_BODY_MEMBER,
  "reply-to": USE_BODY_MEMBER,
  subject: USE_BODY_MEMBER,
  "message-id": USE_BODY_MEMBER,
  "in-reply-to": USE_BODY_MEMBER,
  references: USE_BODY_MEMBER,
  importance: USE_BODY_MEMBER,
  "x-priority": "use importance",
  "x-msmail-priority": "use importance",
  priority: "use importance",
  sender: "the sender is the mailbox",
  date: WRITTEN_BY_COMPOSER,
  "mime-version": WRITTEN_BY_COMPOSER,
  "return-path": "only the receiving server writes it",
  received: "only servers write it",
  "domainkey-signature": "`send.dkim` sets up signing",
  "authentication-results": "only the receiving server writes it",
};
const RESERVED_PATTERNS: [RegExp, string][] = [
  [/^content-/, "the service writes it for the content"],
  [/^dkim-/, "`send.dkim` sets up signing"],
  [/^arc-/, "only servers write it"],
  [/^resent-/, "it would name other recipients"],
  [/^(bcc|apparently-to|envelope-to|delivered-to|x-original-to)$/, "it would name other recipients"],
];

/** Adds an error for each header that the composer writes itself. */
export function checkHeaders(headers: Record<string, unknown>, errors: FieldError[]): void {
  for (const name of Object.keys(headers)) {
    const lower = name.toLowerCase();
    const why = Object.hasOwn(RESERVED_HEADERS, lower)
      ? RESERVED_HEADERS[lower]
      : RESERVED_PATTERNS.find(([family]) => family.test(lower))?.[1];
    if (why !== undefined) errors.push({ path: `headers.${name}`, message: `cannot be given: ${why}` });
  }
}

/** True for a message from a machine (RFC 3834 section 5). */
export function isAutomatic(headers: Record<string, string | string[]>): boolean {
  const values = Object.entries(headers).find(([name]) => name.toLowerCase() === "auto-submitted")?.[1] ?? "no";
  return [values].flat().some((value) => !/^\s*no\b/i.test(value));
}
