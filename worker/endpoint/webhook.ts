/** The webhook dialect: one message as JSON or as raw bytes, signed as Standard Webhooks 1.0.0 says. */
import { urlWithLogin } from "../../shared/contract/endpoint.ts";
import { createHmac, createSecretKey, type KeyObject } from "node:crypto";
import { setImmediate } from "node:timers/promises";
import manifest from "../../package.json" with { type: "json" };
import type { MessagePart, MessageReceived, ParsedMessage } from "../../shared/contract/received.ts";
import type { Secret } from "../../shared/contract/secret.ts";
import type { Encode, DeliverableMessage, WireRequest } from "./endpoint.ts";
import { type Body, bodyParts } from "./body.ts";
import { filesInJson } from "./json-body.ts";
import { webhookId } from "./multipart.ts";

/** The User-Agent that endpoints get. */
export const USER_AGENT = `email-listener/${manifest.version}`;

type EncodedBody = { contentType: string; headers: Record<string, string>; body: Body };

const FORMATS: Record<
  DeliverableMessage["mailbox"]["deliver"]["format"],
  (letter: DeliverableMessage, now: Date) => EncodedBody | Promise<EncodedBody>
> = {
  full: (letter, now) => asJson(letter, letter.parsed, now),
  headers: (letter, now) => asJson(letter, withoutContent(letter.parsed), now),
  raw: asRawMessage,
};

/**
 * Encodes a message, or a part of it, in its mailbox's format. `webhook-id` is the delivery id and the same in every
 * attempt. `webhook-timestamp` and the signature over `id.timestamp.body` are new in each attempt. Without a secret
 * there is no signature.
 */
export const encodeWebhook: Encode = async (message, now) => {
  const { deliver } = message.mailbox;
  const { contentType, headers, body } = await FORMATS[deliver.format](message, now);
  return signRequest(message.mailbox, { id: webhookId(message), contentType, headers, body }, now);
};

type Mailbox = DeliverableMessage["mailbox"];
type Signer = { deliver: Pick<Mailbox["deliver"], "url" | "auth" | "secret"> } & Pick<Mailbox, "oldSecrets">;

/**
 * Makes any body a Standard Webhooks request to the mailbox's endpoint. Without a secret there is no signature. For some hours
 * after a change of the secret there is one by the old secret too.
 */
export async function signRequest(
  { deliver, oldSecrets }: Signer,
  { id, contentType, headers, body }: EncodedBody & { id: string },
  now: Date,
): Promise<WireRequest> {
  const timestamp = String(Math.floor(now.getTime() / 1000));
  const old = [oldSecrets?.last, oldSecrets?.earlier].filter((one) => one && Date.parse(one.until) > now.getTime());
  const secrets = [deliver.secret, ...old.map((one) => one?.secret)].filter((secret) => secret !== undefined);
  const signatures = await Promise.all(secrets.map((secret) => sign(secret, [id, timestamp], body)));
  return {
    url: urlWithLogin(deliver),
    headers: {
      ...headers,
      "content-type": contentType,
      "user-agent": USER_AGENT,
      "webhook-id": id,
      "webhook-timestamp": timestamp,
      ...(deliver.secret && { "webhook-signature": signatures.join(" ") }),
    },
    body,
  };
}

async function asJson(
  { deliveryId, mailbox, ref, flags, raw, part }: DeliverableMessage,
  parsed: ParsedMessage,
  now: Date,
): Promise<EncodedBody> {
  const timestamp = now.toISOString();
  const files = filesInJson(raw.byteLength);
  const data: MessageReceived["data"] = {
    deliveryId,
    mailbox: { id: mailbox.id, address: mailbox.address },
    folder: ref.folder,
    uid: ref.uid,
    uidValidity: ref.epoch,
    receivedAt: ref.receivedAt,
    // The real size, because the one that a server reports may differ or be missing.
    size: raw.byteLength,
    flags,
    ...parsed,
    attachments: parsed.attachments.map((file) => ({
      ...file,
      content: file.content && files.base64(file.content),
    })),
  };
  const value: MessageReceived | MessagePart = part
    ? { type: "message.part", timestamp, part: part.about, data }
    : { type: "message.received", timestamp, data };
  return { contentType: "application/json", headers: {}, body: await files.write(value) };
}

function withoutContent(parsed: ParsedMessage): ParsedMessage {
  const attachments = parsed.attachments.map((attachment) => ({ ...attachment, content: null }));
  return { ...parsed, text: null, html: null, reply: null, attachments };
}

// The fields around the message become headers, percent-encoded if a header cannot contain them.
function asRawMessage({ mailbox, ref, flags, raw }: DeliverableMessage): EncodedBody {
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

/** A value for a header: everything but visible ASCII and inner blanks becomes percent-encoded UTF-8. */
function headerValue(value: string): string {
  return value.toWellFormed().replace(/[^\x20-\x7e]|%|^ | $/gu, encodeURIComponent);
}

async function sign(secret: Secret, [id, timestamp]: [string, string], body: Body): Promise<string> {
  const hmac = createHmac("sha256", getSigningKey(secret)).update(`${id}.${timestamp}.`);
  let isFirst = true;
  for (const part of bodyParts(body)) {
    // Other work gets its turn between the parts of a large body.
    if (!isFirst) await setImmediate();
    isFirst = false;
    hmac.update(part);
  }
  return `v1,${hmac.digest("base64")}`;
}

/** On Node.js half of the time of a signature would be spent on making the key. */
const signingKeys = new WeakMap<Secret, KeyObject>();

function getSigningKey(secret: Secret): KeyObject {
  const known = signingKeys.get(secret) ?? createSecretKey(decodeSecret(secret.reveal()));
  signingKeys.set(secret, known);
  return known;
}

/** The key in a secret: base64, with or without `whsec_`. If it is no base64, its own bytes are the key. */
function decodeSecret(secret: string): Buffer {
  const encoded = secret.replace(/^whsec_/, "");
  const key = Buffer.from(encoded, "base64");
  const isBase64 = key.toString("base64").replaceAll("=", "") === encoded.replaceAll("=", "");
  return isBase64 && key.length > 0 ? key : Buffer.from(secret);
}
