/**
 * Cryptographic messages (CMS, RFC 5652) in S/MIME: their kind, and the content that needs no key. Signatures are not
 * verified.
 */
import { inflateSync } from "node:zlib";
import { childElements, context, type Element, readElement, readOctets, TAG } from "./ber.ts";

/**
 * signed: with its content; detached: a signature or certificates without content; compressed (RFC 3274): with its
 * unpacked content, undefined if that is too large; encrypted; unknown: none of these.
 */
export type CryptographicMessage =
  | { kind: "signed"; content: Buffer }
  | { kind: "compressed"; content: Buffer | undefined }
  | { kind: "detached" | "encrypted" | "unknown" };

/** Object identifiers by their encoding in hex. */
const KINDS: ReadonlyMap<string, "signed" | "encrypted" | "compressed"> = new Map([
  ["2a864886f70d010702", "signed"],
  ["2a864886f70d010703", "encrypted"],
  ["2a864886f70d010704", "encrypted"],
  ["2a864886f70d010706", "encrypted"],
  ["2a864886f70d0109100117", "encrypted"],
  ["2a864886f70d0109100109", "compressed"],
]);

/**
 * Limits of unpacked content: its size in relation to the packed content. Real messages shrink to a third or a tenth.
 * Above `large` bytes only the third is believed.
 */
const UNPACKED = { bytes: 1024 * 1024, times: 10, large: 64 * 1024 * 1024, timesOfLarge: 3 };

/** Parses a message in DER or BER, or in base64 between lines of dashes (PEM). Never throws. */
export function openCms(bytes: Buffer): CryptographicMessage {
  const der = fromPem(bytes);
  const end = der.length;
  const info = readElement(der, 0, end);
  if (info?.tag !== TAG.sequence) return { kind: "unknown" };
  const [type, wrapper] = take(der, info, end, 2);
  const kind = type?.tag === TAG.objectId ? KINDS.get(der.toString("hex", type.from, type.to)) : undefined;
  if (!kind || kind === "encrypted") return { kind: kind ?? "unknown" };
  const data = wrapper?.tag === context(0) ? take(der, wrapper, end, 1)[0] : undefined;
  if (data?.tag !== TAG.sequence) return { kind: "unknown" };
  // SignedData: version, digestAlgorithms, encapContentInfo. CompressedData: version, compressionAlgorithm,
  // encapContentInfo.
  const [, , encapsulated] = take(der, data, end, 3);
  if (encapsulated?.tag !== TAG.sequence) return { kind: "unknown" };
  const content = readContent(der, encapsulated, end);
  if (kind === "signed") return content ? { kind, content } : { kind: "detached" };
  return content ? { kind, content: unpack(content) } : { kind: "unknown" };
}

// EncapsulatedContentInfo: eContentType, eContent [0] EXPLICIT OCTET STRING OPTIONAL. PKCS #7 allows any type in its
// place.
function readContent(der: Buffer, encapsulated: Element, end: number): Buffer | undefined {
  const [, explicit] = take(der, encapsulated, end, 2);
  if (explicit?.tag !== context(0)) return undefined;
  const inner = explicit.constructed ? take(der, explicit, end, 1)[0] : explicit;
  return inner && readOctets(der, inner, end);
}

function take(der: Buffer, parent: Element, end: number, count: number): Element[] {
  const found: Element[] = [];
  for (const element of childElements(der, parent, end)) {
    found.push(element);
    if (found.length === count) break;
  }
  return found;
}

function unpack(packed: Buffer): Buffer | undefined {
  try {
    const most = UNPACKED.bytes + UNPACKED.times * packed.length;
    const large = Math.max(UNPACKED.large, UNPACKED.timesOfLarge * packed.length);
    return inflateSync(packed, { maxOutputLength: Math.min(most, large) });
  } catch {
    // It is too large, or no zlib stream. The part stays a file, and `limited` says so.
    return undefined;
  }
}

function fromPem(bytes: Buffer): Buffer {
  if (bytes.toString("latin1", 0, 11) !== "-----BEGIN ") return bytes;
  const body = bytes.toString("latin1").replace(/^-----[^\r\n]{1,80}$/gm, "");
  return Buffer.from(body, "base64");
}
