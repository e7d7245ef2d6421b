/**
 * The claims of a single node: of messages, and of contents that are being delivered. They need not outlive the process, because the
 * claims of a process that died are free.
 */
import type { MessageRef } from "../../contract/message.ts";

/** The message from which the content is being delivered, until `expires` (ms). */
export type ContentClaim = { ref: MessageRef; expires: number };

export type Claims = {
  /** When the claim of the message expires (ms). Undefined without a claim. */
  expiryOf(mailbox: string, ref: MessageRef): number | undefined;
  claim(mailbox: string, ref: MessageRef, expires: number): void;
  /** `print` is 16 bytes in hex. */
  findContent(mailbox: string, print: string): ContentClaim | undefined;
  /** Replaces another claim of this content. */
  claimContent(mailbox: string, print: string, claim: ContentClaim): void;
  /** The contents that are claimed from this place. */
  contentsOf(mailbox: string, ref: MessageRef): { print: string; ref: MessageRef }[];
  /** Ends the claims of these messages and of the contents that are claimed from their places. */
  drop(mailbox: string, refs: readonly MessageRef[]): void;
  dropMailbox(mailbox: string): void;
};

type MailboxClaims = {
  expiries: Map<string, number>;
  contents: Map<string, ContentClaim>;
  /** The claimed contents by the place of their message. */
  prints: Map<string, Set<string>>;
};

export function memoryClaims(): Claims {
  const mailboxes = new Map<string, MailboxClaims>();
  const claimsOf = (mailbox: string): MailboxClaims => {
    const known = mailboxes.get(mailbox);
    if (known) return known;
    const fresh: MailboxClaims = { expiries: new Map(), contents: new Map(), prints: new Map() };
    mailboxes.set(mailbox, fresh);
    return fresh;
  };
  const dropContents = ({ contents, prints }: MailboxClaims, place: string) => {
    for (const print of prints.get(place) ?? []) contents.delete(print);
    prints.delete(place);
  };
  return {
    expiryOf: (mailbox, ref) => mailboxes.get(mailbox)?.expiries.get(placeOf(ref)),
    claim(mailbox, ref, expires) {
      claimsOf(mailbox).expiries.set(placeOf(ref), expires);
    },
    findContent: (mailbox, print) => mailboxes.get(mailbox)?.contents.get(print),
    claimContent(mailbox, print, claim) {
      const { contents, prints } = claimsOf(mailbox);
      const earlier = contents.get(print);
      if (earlier) prints.get(placeOf(earlier.ref))?.delete(print);
      contents.set(print, claim);
      const place = placeOf(claim.ref);
      const others = prints.get(place);
      if (others) others.add(print);
      else prints.set(place, new Set([print]));
    },
    contentsOf(mailbox, ref) {
      const claims = mailboxes.get(mailbox);
      return [...(claims?.prints.get(placeOf(ref)) ?? [])].map((print) => ({
        print,
        ref: claims?.contents.get(print)?.ref ?? ref,
      }));
    },
    drop(mailbox, refs) {
      const claims = mailboxes.get(mailbox);
      if (!claims) return;
      for (const ref of refs) {
        const place = placeOf(ref);
        claims.expiries.delete(place);
        dropContents(claims, place);
      }
      if (claims.expiries.size === 0 && claims.contents.size === 0) mailboxes.delete(mailbox);
    },
    dropMailbox(mailbox) {
      mailboxes.delete(mailbox);
    },
  };
}

/** A folder may contain any character, so it comes last. */
function placeOf({ folder, epoch, uid }: MessageRef): string {
  return `${uid} ${epoch.length} ${epoch} ${folder}`;
}
