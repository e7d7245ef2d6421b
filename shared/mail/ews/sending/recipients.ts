/** Whom Exchange would send a message to: it has no envelope beside the message, so the header must say the same as the order. */
import { Problem } from "../../../contract/problem.ts";
import { BOUNDS, limitedList } from "../../mime/limits.ts";
import { readHeader } from "../../mime/header.ts";
import { addressesIn, sameAddress } from "../../smtp/addresses.ts";

const LIMITS = { bytes: BOUNDS.headerBytes, fields: BOUNDS.fields, fieldBytes: BOUNDS.headerBytes };

/**
 * The recipients that the header does not name, to be given as Bcc. Throws `message` (retry never) when the header names somebody
 * who is no recipient, and would get the message all the same.
 */
export function hiddenRecipients(raw: Buffer, to: readonly string[]): string[] {
  const { fields } = readHeader(raw, { from: 0, to: raw.length }, LIMITS, limitedList());
  const named = fields.filter(({ name }) => name === "to" || name === "cc").flatMap(({ value }) => addressesIn(value));
  const extra = named.find((one) => !to.some((other) => sameAddress(one, other)));
  if (extra !== undefined)
    throw new Problem("message", "Exchange sends to everybody whom To and Cc name, and one of them is no recipient", {
      retry: "never",
      evidence: extra,
      errors: [{ path: "raw", message: `names ${extra}, who is no recipient; Exchange would send to everybody named` }],
    });
  return to.filter((one) => !named.some((other) => sameAddress(one, other)));
}
