/** The other direction in the OpenAPI document: what the service sends to an endpoint, and how it takes the answers. */

const HEADERS = {
  "webhook-id":
    "The delivery id: the same over retries and replays, so it serves to recognise what was received before.",
  "webhook-timestamp": "Seconds since 1970 when this attempt was signed.",
  "webhook-signature":
    "`v1,` and the HMAC-SHA256 of `{id}.{timestamp}.{body}` under the mailbox's secret, in base64 (Standard Webhooks 1.0.0).",
};

type Schema = Record<string, unknown>;

/** The `webhooks` section; `message`, `part` and `sent` are the schemas of the bodies. */
export function webhooks({
  message,
  part,
  sent,
}: {
  message: Schema;
  part: Schema;
  sent: Schema;
}): Record<string, unknown> {
  return {
    messageReceived: hook({
      operationId: "messageReceived",
      summary: "A message arrived",
      description:
        "One POST to `deliver.url` for each message. With format headers the body has no text, html or attachment contents; " +
        "with format raw it is the message itself (`message/rfc822`), mailbox and folder in `x-email-listener-*` headers.",
      content: { "application/json": { schema: message }, "message/rfc822": { schema: { type: "string" } } },
    }),
    messageSent: hook({
      operationId: "messageSent",
      summary: "What became of a message that goes out",
      description:
        "If the request or the mailbox asks for it (`notify`): one POST when a sending is over (`message.sent`, `message.failed`, `message.unknown`), and one for each " +
        "recipient whose message comes back later (`message.bounced`). `data` is the sending as it is when the event is posted.",
      content: { "application/json": { schema: sent } },
    }),
    messagePart: hook({
      operationId: "messagePart",
      summary: "A part of a message arrived",
      description:
        "With `deliver.split`, one POST for the body and one for each attachment, in this order. `webhook-id` is the delivery id, a " +
        "hyphen and the index of the part; `data.deliveryId` joins the parts. The message counts as delivered once every part was " +
        "accepted; a part that was accepted is not posted again when another is refused.",
      content: { "application/json": { schema: part } },
    }),
  };
}

type Hook = { operationId: string; summary: string; description: string; content: Record<string, unknown> };

function hook({ content, ...about }: Hook): Record<string, unknown> {
  return {
    post: {
      ...about,
      tags: ["Webhooks"],
      security: [],
      parameters: Object.entries(HEADERS).map(([name, description]) => ({
        name,
        in: "header",
        required: true,
        description,
        schema: { type: "string" },
      })),
      requestBody: { required: true, content },
      responses: {
        "2XX": { description: "Delivered." },
        "410": {
          description:
            "The endpoint is gone: nothing more is posted until `deliver` changes or the mailbox is resumed.",
        },
        default: {
          description:
            "Tried again on a schedule that honours Retry-After, then parked for a replay. Redirects are not followed.",
        },
      },
    },
  };
}
