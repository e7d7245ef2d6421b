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
  /** The fingerprints of the contents that are claimed from this place. */
  contentsOf(mailbox: string, ref: MessageRef): readonly string[];
  /** Ends the claims of these messages and of the contents that are claimed from their places. */
  drop(mailbox: string, refs: readonly MessageRef[]): void;
  dropMailbox(mailbox: string): void;
};

/** What is claimed at one place: the message itself, if `expires` is there, and contents. */
type Place = { expires: number | undefined; prints: string[] };
type MailboxClaims = { places: Map<string, Place>; contents: Map<string, ContentClaim> };

export function memoryClaims(): Claims {
  const mailboxes = new Map<string, MailboxClaims>();
  const claimsOf = (mailbox: string): MailboxClaims => {
    const known = mailboxes.get(mailbox);
    if (known) return known;
    const fresh: MailboxClaims = { places: new Map(), contents: new Map() };
    mailboxes.set(mailbox, fresh);
    return fresh;
  };
  return {
    expiryOf: (mailbox, ref) => mailboxes.get(mailbox)?.places.get(nameOf(ref))?.expires,
    claim(mailbox, ref, expires) {
      placeOf(claimsOf(mailbox), ref).expires = expires;
    },
    findContent: (mailbox, print) => mailboxes.get(mailbox)?.contents.get(print),
    claimContent(mailbox, print, claim) {
      const claims = claimsOf(mailbox);
      const earlier = claims.contents.get(print);
      if (earlier) {
        const place = placeOf(claims, earlier.ref);
        place.prints = place.prints.filter((one) => one !== print);
      }
      claims.contents.set(print, claim);
      placeOf(claims, claim.ref).prints.push(print);
    },
    contentsOf: (mailbox, ref) => mailboxes.get(mailbox)?.places.get(nameOf(ref))?.prints ?? [],
    drop(mailbox, refs) {
      const claims = mailboxes.get(mailbox);
      if (!claims) return;
      for (const ref of refs) {
        const name = nameOf(ref);
        for (const print of claims.places.get(name)?.prints ?? []) claims.contents.delete(print);
        claims.places.delete(name);
      }
      if (claims.places.size === 0) mailboxes.delete(mailbox);
    },
    dropMailbox(mailbox) {
      mailboxes.delete(mailbox);
    },
  };
}

function placeOf({ places }: MailboxClaims, ref: MessageRef): Place {
  const name = nameOf(ref);
  const known = places.get(name);
  if (known) return known;
  const fresh: Place = { expires: undefined, prints: [] };
  places.set(name, fresh);
  return fresh;
}

/** A folder may contain any character, so it comes last. */
function nameOf({ folder, epoch, uid }: MessageRef): string {
  return `${uid} ${epoch.length} ${epoch} ${folder}`;
}
