/** The machine-readable part of a notification (RFC 3464, RFC 6533). It accepts what inexact servers write. */
import type { Bounce } from "../../../contract/received.ts";
import { bareAddress } from "./addresses.ts";
import { findReason } from "./reason.ts";
import { chooseStatus, findStatus } from "./status.ts";

export type RecipientReport = Bounce["recipients"][number];

/** How much of a report is read. The rest of a notification about a thousand recipients is ignored. */
const MAX_REPORT_CHARACTERS = 65_536;
const MAX_REPORTS = 1000;
const MAX_LINE = 4000;

/**
 * The fields of RFC 3464 and related ones. Any other line belongs to the field before it, because some servers do not
 * fold lines.
 */
const FIELD =
  /^\s*(reporting-mta|dsn-gateway|received-from-mta|arrival-date|original-envelope-id|(?:final|original|x-actual|x-original)-recipient|recipient|action|status|remote-mta|diagnostic-code|last-attempt-date|will-retry-until|final-log-id|localized-[a-z]{1,20}|x-[a-z0-9-]{1,60})\s*:(.*)$/i;
/** Each recipient has these once. A second one starts the next recipient, with or without an empty line. */
const RECIPIENTS = ["final-recipient", "original-recipient"];
const ONCE = new Set([...RECIPIENTS, "action", "status"]);

type ReportFields = Map<string, string>;

/**
 * The results per recipient in a delivery-status report, in its order. Recipients without address, action and status
 * are left out.
 */
export function parseDeliveryStatus(content: string): RecipientReport[] {
  return readGroups(content).filter(isAboutRecipient).slice(0, MAX_REPORTS).map(toReport);
}

/** True if a text contains the fields of such a report. Some servers write them into the body text. */
export function holdsDeliveryStatus(text: string): boolean {
  return /^\s{0,20}(final|original)-recipient\s{0,5}:/im.test(text.slice(0, MAX_REPORT_CHARACTERS));
}

function readGroups(content: string): ReportFields[] {
  const groups: ReportFields[] = [];
  let current: ReportFields = new Map();
  let [name, afterBlank] = ["", false];
  for (const line of content.slice(0, MAX_REPORT_CHARACTERS).split(/\r\n|\r|\n/)) {
    const field = FIELD.exec(line.slice(0, MAX_LINE));
    if (line.trim() === "") {
      [name, afterBlank] = ["", true];
    } else if (field) {
      name = (field[1] ?? "").toLowerCase();
      if (beginsNext(current, name, afterBlank)) {
        groups.push(current);
        current = new Map();
      }
      afterBlank = false;
      if (!current.has(name)) current.set(name, (field[2] ?? "").trim());
    } else if (name !== "") current.set(name, `${current.get(name) ?? ""} ${line.trim()}`.slice(0, MAX_LINE));
  }
  return [...groups, current];
}

// The group of a recipient ends where one of its fields is repeated, or where an empty line and another recipient
// follow.
function beginsNext(current: ReportFields, name: string, afterBlank: boolean): boolean {
  if (ONCE.has(name) && current.has(name)) return true;
  return afterBlank && RECIPIENTS.includes(name) && RECIPIENTS.some((recipient) => current.has(recipient));
}

function isAboutRecipient(fields: ReportFields): boolean {
  return [...ONCE].some((name) => fields.has(name));
}

function toReport(fields: ReportFields): RecipientReport {
  const diagnostic = stripType(fields.get("diagnostic-code")) ?? null;
  const field = fields.get("status") ?? null;
  const status = chooseStatus(field, diagnostic ?? "");
  const action = readAction(fields.get("action"), status);
  // The original recipient counts first: the final one may be an alias that the sender does not know.
  const recipient =
    decodeAddress(fields.get("original-recipient")) ??
    decodeAddress(fields.get("final-recipient")) ??
    decodeAddress(fields.get("recipient"));
  // Some servers give the reason only as text after the code in the Status field.
  const words = diagnostic ?? (field && field.replace(findStatus(field) ?? "", "").trim()) ?? null;
  return {
    recipient,
    action,
    status,
    diagnostic,
    reason: isFailure(action) || action === "delayed" ? findReason(status, words) : null,
  };
}

/** True if an action (RFC 3464 section 2.3.3) reports a failure. Exchange and others write `failure` and `expired`. */
export function isFailure(action: string | null): boolean {
  return action !== null && /^(fail|expired|undeliver|complaint|error|reject|bounce)/.test(action);
}

const ACTION = /^\W*(fail|expired|undeliver|delayed|delivered|relayed|expanded|deliverable|error|reject|bounce)[a-z]*/;

// The Action field is required, but some servers omit it. Then a permanent status is a failure, and a success is a
// delivery.
function readAction(value: string | undefined, status: string | null): string {
  const stated = ACTION.exec((value ?? "").slice(0, 200).toLowerCase());
  if (stated) return /^(fail|error|reject|bounce|undeliver)/.test(stated[1] ?? "") ? "failed" : (stated[1] ?? "failed");
  if (status?.startsWith("4")) return "delayed";
  return status?.startsWith("2") ? "delivered" : "failed";
}

// `rfc822; a@b`, and `utf-8; \x{FC}@b` (RFC 6533 section 3).
function decodeAddress(value: string | undefined): string | null {
  if (value === undefined) return null;
  const decoded = value.replace(/\\x\{([0-9a-f]{1,6})\}/gi, (whole, hex: string) => decodeCodePoint(hex) ?? whole);
  const address = bareAddress(decoded);
  return address === null || /^(unknown|none|n\/a|<>)$/i.test(address) ? null : address;
}

function decodeCodePoint(hex: string): string | undefined {
  const code = Number.parseInt(hex, 16);
  return code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff) ? undefined : String.fromCodePoint(code);
}

// Removes the type from `smtp; 550 5.1.1 ...`.
function stripType(value: string | undefined): string | undefined {
  if (value === undefined) return undefined;
  const plain = value.replace(/^[a-z][a-z0-9-]{0,20}\s*;\s*/i, "").trim();
  return plain.replace(/\s+/g, " ") || undefined;
}
