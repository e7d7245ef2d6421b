/** Read receipts (message disposition notifications, RFC 8098). */
import type { Receipt } from "../../contract/received.ts";
import { bareAddress } from "./bounce/addresses.ts";
import { decodeContent, decodeText } from "./content.ts";
import { fieldValue, readNestedHeader } from "./header.ts";
import type { LimitedReasons } from "./limits.ts";
import type { Part } from "./tree.ts";
import { parseMessageIds } from "./values/message-ids.ts";

const DISPOSITION_NOTIFICATION = /^message\/(global-)?disposition-notification$/;
const MAX_REPORT_BYTES = 65_536;

/** Reads the receipt among the parts of a message. Null if there is none. */
export function readReceipt(parts: Part[], limited: LimitedReasons): Receipt | null {
  const part = parts.find(({ media }) => DISPOSITION_NOTIFICATION.test(media.type));
  if (!part) return null;
  const content = decodeText(part, decodeContent(part).subarray(0, MAX_REPORT_BYTES)).trimStart();
  // Some receipts have empty lines between the fields.
  const fields = readNestedHeader(Buffer.from(`${content.replace(/(\r?\n){2,}/g, "\n")}\n`));
  const disposition = fieldValue(fields, "disposition");
  return {
    originalMessageId: parseMessageIds(fieldValue(fields, "original-message-id"), limited)[0] ?? null,
    disposition: disposition === undefined ? null : readDispositionType(disposition),
    recipient: bareAddress(fieldValue(fields, "original-recipient") ?? fieldValue(fields, "final-recipient")),
  };
}

// In `manual-action/MDN-sent-manually; displayed/error` the type is between the semicolon and the slash.
function readDispositionType(value: string): string | null {
  const type = value.slice(value.indexOf(";") + 1).split("/")[0] ?? "";
  return type.trim().toLowerCase() || null;
}
