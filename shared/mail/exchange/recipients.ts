/**
 * Compares the recipients with the header. Exchange has no envelope, so it sends to everybody that the header names.
 */
import { Problem } from "../../contract/problem.ts";
import { quoteWords } from "../../evidence/evidence.ts";
import { MIME_LIMITS, limitedReasons } from "../mime/limits.ts";
import { readHeader } from "../mime/header.ts";
import { parseAddressHeader, sameAddress } from "../smtp/addresses.ts";

const LIMITS = { bytes: MIME_LIMITS.headerBytes, fields: MIME_LIMITS.fields, fieldBytes: MIME_LIMITS.headerBytes };

/**
 * The recipients that the header does not name, for Bcc. Throws `message` (retry never) if the header names somebody
 * who is no recipient, because Exchange would send to him too.
 */
export function getBccRecipients(raw: Buffer, to: readonly string[]): string[] {
  const { fields } = readHeader(raw, { from: 0, to: raw.length }, LIMITS, limitedReasons());
  const named = fields
    .filter(({ name }) => name === "to" || name === "cc")
    .flatMap(({ value }) => parseAddressHeader(value));
  const unlisted = named.find((one) => !to.some((other) => sameAddress(one, other)));
  if (unlisted !== undefined)
    throw new Problem("message", "Exchange sends to everybody in To and Cc, and one of them is not a recipient", {
      retry: "never",
      evidence: quoteWords(unlisted, { secrets: [] }),
      errors: [
        { path: "raw", message: `names ${unlisted}, who is not a recipient; Exchange sends to everybody in To and Cc` },
      ],
    });
  return to.filter((one) => !named.some((other) => sameAddress(one, other)));
}
