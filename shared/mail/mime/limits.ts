/** How much of one message is read: what lies beyond a bound is left out, and the message says so. */

/**
 * The bounds of one message. Each is far above what real mail has and low enough that the worst message costs seconds, not minutes;
 * mail software has been brought down by every one of these (CVE-2024-23184, CVE-2024-23185, CVE-2026-27859 among them).
 */
export const BOUNDS = {
  /** Bytes of the message's own header. Real ones have 5 to 20 KB, with spam reports up to 100 KB. */
  headerBytes: 1024 * 1024,
  /** Fields in it. A long way through many hops makes about 150. */
  fields: 1000,
  /** Bytes of one field. A thousand receivers make about 50 KB. */
  fieldBytes: 128 * 1024,
  /** Encoded words (RFC 2047) in one field, and in all of them; a field beyond stays undecoded. */
  wordsPerField: 1000,
  words: 10_000,
  /** Addresses of one field (From, To, Cc, ...). */
  addresses: 1000,
  /** Message ids in References. */
  references: 1000,
  /** MIME parts, and levels of multiparts inside each other. */
  parts: 1000,
  depth: 50,
  /** Bytes of the header of one part, and of its fields one by one. */
  partHeaderBytes: 64 * 1024,
  partFieldBytes: 16 * 1024,
  /** Parameters of one Content-Type or Content-Disposition, RFC 2231 continuations counted one by one. */
  parameters: 200,
  /** Bytes of text and HTML together, decoded. More is no letter but a file that someone pasted. */
  textBytes: 16 * 1024 * 1024,
  /** Attachments kept, the parts' bound above holds as well. */
  attachments: 500,
} as const;

/** Collects what was left out, each reason once, in plain words. */
export type Limited = { add: (reason: string) => void; reasons: () => string[] | null };

/** An empty list of reasons. */
export function limitedList(): Limited {
  const found = new Set<string>();
  return {
    add: (reason) => void found.add(reason),
    reasons: () => (found.size > 0 ? [...found] : null),
  };
}
