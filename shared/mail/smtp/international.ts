/** Decides whether a message needs a server that accepts international addresses (RFC 6531). */
import { isAscii, isUtf8 } from "node:buffer";
import { needsUtf8, parseAddressHeader } from "./addresses.ts";

const ADDRESS_FIELD = /^(?:from|sender|to|cc|reply-to):(.*)$/i;

/**
 * True if an address in the header has characters beyond ASCII. A name beyond ASCII is no reason: it is encoded, or, in
 * a message composed elsewhere, every server accepts it as it is.
 */
export function hasInternationalAddress(raw: Buffer): boolean {
  const end = raw.indexOf("\r\n\r\n");
  const header = raw.subarray(0, end < 0 ? raw.length : end);
  if (isAscii(header) || !isUtf8(header)) return false;
  const fields = header
    .toString("utf8")
    .replaceAll(/\r\n(?=[ \t])/g, "")
    .split("\r\n");
  return fields.some((field) => {
    const value = ADDRESS_FIELD.exec(field)?.[1] ?? "";
    return needsUtf8(value) && getAddresses(value).some(needsUtf8);
  });
}

/** An unreadable field gives no addresses. It requires nothing of the server. */
function getAddresses(value: string): string[] {
  try {
    return parseAddressHeader(value);
  } catch {
    return [];
  }
}
