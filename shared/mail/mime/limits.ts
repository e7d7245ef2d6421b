/** Limits on how much of a message is parsed. What is beyond a limit is left out, and `limited` says so. */

/**
 * The limits of one message. Each is far above real mail, and low enough that the worst message takes seconds, not
 * minutes. Each of these has brought down mail software (for example CVE-2024-23184, CVE-2024-23185, CVE-2026-27859).
 */
export const MIME_LIMITS = {
  /** Bytes of the message's header. Real ones have 5 to 20 KB, with spam reports up to 100 KB. */
  headerBytes: 1024 * 1024,
  /** Fields of the message's header. A long way over many hops makes about 150. */
  fields: 1000,
  /** Bytes of one field. A thousand recipients make about 50 KB. */
  fieldBytes: 128 * 1024,
  /** Encoded words (RFC 2047) in one field, and in all of them. A field beyond the limit stays encoded. */
  wordsPerField: 1000,
  words: 10_000,
  /** Addresses of one field (From, To, Cc, ...). */
  addresses: 1000,
  /** Message ids in References. */
  references: 1000,
  /** MIME parts, and levels of nested multiparts. */
  parts: 1000,
  depth: 50,
  /** Bytes of the header of one part, and of each of its fields. */
  partHeaderBytes: 64 * 1024,
  partFieldBytes: 16 * 1024,
  /** Parameters of one Content-Type or Content-Disposition. RFC 2231 continuations count one by one. */
  parameters: 200,
  /** Bytes of decoded text and HTML together. More than this is a pasted file rather than a message. */
  textBytes: 16 * 1024 * 1024,
  /** Characters of text that are converted to HTML, and of HTML that are converted to text. They can become six times as many. */
  convertedCharacters: 2 * 1024 * 1024,
  /** Attachments. The limit on parts applies too. */
  attachments: 500,
} as const;

/** Collects what was left out, each reason once, in plain words. */
export type LimitedReasons = { add: (reason: string) => void; reasons: () => string[] | null };

/** An empty list of reasons. */
export function limitedReasons(): LimitedReasons {
  const found = new Set<string>();
  return {
    add: (reason) => void found.add(reason),
    reasons: () => (found.size > 0 ? [...found] : null),
  };
}

/** The reason for attachments without content: they are larger than the mailbox's `maxAttachmentBytes`. */
export function attachmentsLeftOut(maxBytes: number): string {
  return `attachments over ${maxBytes} bytes left out`;
}
