/** Sample mailboxes, messages and deliveries for the conformance suites. */
import type { Delivery } from "../../shared/contract/delivery.ts";
import type { MailboxOf } from "../../shared/contract/mailbox.ts";
import type { Cursor, MessageRef } from "../../shared/contract/message.ts";
import { Secret } from "../../shared/contract/secret.ts";

export function mailboxOf(id: string, more: Partial<MailboxOf<"imap">> = {}): MailboxOf<"imap"> {
  const now = new Date().toISOString();
  return {
    id,
    address: `${id}@example.com`,
    receive: {
      protocol: "imap",
      host: "imap.example.com",
      tls: "implicit",
      auth: { user: id, password: new Secret(`password-of-${id}`) },
      folders: ["INBOX"],
      since: "now",
      mode: "push",
      poll: { everySeconds: 60 },
      processLock: false,
      afterDelivery: "leave",
    },
    deliver: {
      url: "https://crm.example.com/mail",
      dialect: "webhook",
      secret: new Secret(`whsec_of-${id}`),
      format: "full",
      maxAttachmentBytes: 26214400,
    },
    paused: false,
    endpointGone: false,
    revision: 0,
    createdAt: now,
    updatedAt: now,
    ...more,
  };
}

export function refOf(uid: number, more: Partial<MessageRef> = {}): MessageRef {
  return { folder: "INBOX", epoch: "1", uid, size: 1000, receivedAt: "2026-01-01T00:00:00.000Z", ...more };
}

export function cursorOf(uid: number, more: Partial<Cursor> = {}): Cursor {
  return { folder: "INBOX", epoch: "1", uid, state: null, newest: "2026-01-01T00:00:00.000Z", ...more };
}

export function deliveryOf(id: string, more: Partial<Delivery> = {}): Delivery {
  const at = new Date().toISOString();
  return {
    id,
    mailbox: "a",
    endpoint: "https://crm.example.com",
    ref: refOf(1),
    flags: [],
    state: "delivered",
    attempts: [],
    attemptCount: 1,
    createdAt: at,
    giveUpAt: at,
    updatedAt: at,
    nextAttemptAt: null,
    reason: null,
    spooled: false,
    ...more,
  };
}

/** A fingerprint that is the same for the same number. */
export function printOf(n: number): string {
  return n.toString(16).padStart(32, "0");
}
