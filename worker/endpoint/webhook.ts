/** The webhook dialect: one message as JSON, or as it is, signed as Standard Webhooks 1.0.0 wants it. */
import { createHmac } from "node:crypto";
import manifest from "../../package.json" with { type: "json" };
import type { MessagePart, MessageReceived, ParsedMessage } from "../../shared/contract/received.ts";
import type { Secret } from "../../shared/contract/secret.ts";
import type { Encode, Letter, WireRequest } from "./endpoint.ts";
import { letterId } from "./multipart.ts";

/** What identifies the service to endpoints. */
export const USER_AGENT = `email-listener/${manifest.version}`;

type Body = { contentType: string; headers: Record<string, string>; body: Uint8Array | string };

const FORMATS: Record<Letter["mailbox"]["deliver"]["format"], (letter: Letter, now: Date) => Body> = {
  full: (letter, now) => asJson(letter, letter.parsed, now),
  headers: (letter, now) => asJson(letter, withoutContent(letter.parsed), now),
  raw: asMessage,
};

/**
 * Encodes a message, or a part of it, by its mailbox's format. `webhook-id` is the delivery id, the same in every attempt;
 * `webhook-timestamp` and the signature over `id.timestamp.body` are this attempt's. Without a secret it is not signed.
 */
export const encodeWebhook: Encode = (letter, now) => {
  const { deliver } = letter.mailbox;
  const { contentType, headers, body } = FORMATS[deliver.format](letter, now);
  return signedRequest(letter.mailbox, { id: letterId(letter), contentType, headers, body }, now);
};

/** Any body as a request of Standard Webhooks to the mailbox's endpoint; not signed without a secret. */
export function signedRequest(
  { deliver }: Letter["mailbox"],
  { id, contentType, headers, body }: Body & { id: string },
  now: Date,
): WireRequest {
  const timestamp = String(Math.floor(now.getTime() / 1000));
  return {
    url: deliver.url,
    headers: {
      ...headers,
      "content-type": contentType,
      "user-agent": USER_AGENT,
      "webhook-id": id,
      "webhook-timestamp": timestamp,
      ...(deliver.secret && { "webhook-signature": signature(deliver.secret, [id, timestamp], body) }),
    },
    body,
  };
}

function asJson({ deliveryId, mailbox, ref, flags, part }: Letter, parsed: ParsedMessage, now: Date): Body {
  const timestamp = now.toISOString();
  const data: MessageReceived["data"] = {
    deliveryId,
    mailbox: { id: mailbox.id, address: mailbox.address },
    folder: ref.folder,
    uid: ref.uid,
    uidValidity: ref.epoch,
    receivedAt: ref.receivedAt,
    size: ref.size,
    flags,
    ...parsed,
  };
  const message: MessageReceived | MessagePart = part
    ? { type: "message.part", timestamp, part: part.about, data }
    : { type: "message.received", timestamp, data };
  // As bytes at once: signing, counting and sending would each encode a string again.
  return { contentType: "application/json", headers: {}, body: Buffer.from(JSON.stringify(message)) };
}

function withoutContent(parsed: ParsedMessage): ParsedMessage {
  const attachments = parsed.attachments.map((attachment) => ({ ...attachment, content: null }));
  return { ...parsed, text: null, html: null, attachments };
}

// What the JSON says beside the message goes into headers, percent-encoded where a header cannot carry it.
function asMessage({ mailbox, ref, flags, raw }: Letter): Body {
  const about = {
    mailbox: mailbox.id,
    address: mailbox.address,
    folder: ref.folder,
    uid: String(ref.uid),
    "uid-validity": ref.epoch,
    "received-at": ref.receivedAt,
    flags: flags.join(" "),
  };
  const headers = Object.entries(about).map(([name, value]) => [`x-email-listener-${name}`, headerValue(value)]);
  return { contentType: "message/rfc822", headers: Object.fromEntries(headers), body: raw };
}

/** A value as a header can carry it: everything but visible ASCII and inner blanks as percent-encoded UTF-8. */
function headerValue(value: string): string {
  return value.toWellFormed().replace(/[^\x20-\x7e]|%|^ | $/gu, encodeURIComponent);
}

function signature(secret: Secret, [id, timestamp]: [string, string], body: Uint8Array | string): string {
  const hmac = createHmac("sha256", signingKey(secret.reveal())).update(`${id}.${timestamp}.`);
  return `v1,${hmac.update(body).digest("base64")}`;
}

/** The key in a secret: base64, with or without `whsec_`. One that is no base64 counts by its own bytes. */
function signingKey(secret: string): Buffer {
  const encoded = secret.replace(/^whsec_/, "");
  const key = Buffer.from(encoded, "base64");
  const whole = key.toString("base64").replace(/=+$/, "") === encoded.replace(/=+$/, "");
  return whole && key.length > 0 ? key : Buffer.from(secret);
}
