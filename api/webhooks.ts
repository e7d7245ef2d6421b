/**
 * The other direction in the OpenAPI document: what the service sends to an endpoint, and what it makes of the answers.
 */

const HEADERS = {
  "webhook-id":
    "The delivery id. It stays the same over retries and replays, so you can recognise a message that you have received before.",
  "webhook-timestamp": "When this attempt was signed, in seconds since 1970.",
  "webhook-signature":
    "`v1,` and the HMAC-SHA256 of `{id}.{timestamp}.{body}` under the mailbox's secret, in base64 (Standard Webhooks 1.0.0). While a secret is changed there are several, with spaces between them: one that is right is enough.",
};

type Schema = Record<string, unknown>;

const TEXT = { type: "string" };
const ABOUT = { type: "object", properties: { id: TEXT, address: TEXT }, required: ["id", "address"] };
const TEST_BODY: Schema = {
  type: "object",
  properties: {
    type: { const: "endpoint.test" },
    timestamp: TEXT,
    data: { type: "object", properties: { mailbox: ABOUT }, required: ["mailbox"] },
  },
  required: ["type", "timestamp", "data"],
};

/** The `webhooks` section. `message`, `part` and `sent` are the schemas of the bodies. */
export function webhookDocs({
  message,
  part,
  sent,
}: {
  message: Schema;
  part: Schema;
  sent: Schema;
}): Record<string, unknown> {
  return {
    messageReceived: webhookOperation({
      operationId: "messageReceived",
      summary: "A message arrived",
      description:
        "One POST to `deliver.url` for each message. With format headers the body has no text, html or attachment contents. " +
        "With format raw the body is the message itself (`message/rfc822`), and `x-email-listener-*` headers have the mailbox and the folder.",
      content: { "application/json": { schema: message }, "message/rfc822": { schema: { type: "string" } } },
    }),
    messageSent: webhookOperation({
      operationId: "messageSent",
      summary: "The result of an outgoing message",
      description:
        "If the request or the mailbox asks for it (`notify`): one POST when a sending has ended (`message.sent`, `message.failed`, `message.unknown`), and one for each " +
        "recipient whose message is returned later (`message.bounced`). `data` is the sending at the time of the POST.",
      content: { "application/json": { schema: sent } },
    }),
    endpointTest: webhookOperation({
      operationId: "endpointTest",
      summary: "A person tests the endpoint",
      description:
        "One POST by `POST /api/v1/endpoints/test`, with `type: endpoint.test` and the mailbox whose secret signs it. It is not repeated. Answer 2xx.",
      content: { "application/json": { schema: TEST_BODY } },
    }),
    messagePart: webhookOperation({
      operationId: "messagePart",
      summary: "A part of a message arrived",
      description:
        "With `deliver.split` there is one POST for the body and one for each attachment, in this order. `webhook-id` is the delivery id, a " +
        "hyphen and the index of the part. `data.deliveryId` joins the parts. The message is delivered when the endpoint has " +
        "accepted all parts. An accepted part is not posted again when another one is refused.",
      content: { "application/json": { schema: part } },
    }),
  };
}

type WebhookOperation = { operationId: string; summary: string; description: string; content: Record<string, unknown> };

function webhookOperation({ content, ...about }: WebhookOperation): Record<string, unknown> {
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
            "The endpoint is gone. The service posts nothing until `deliver` changes or somebody resumes the mailbox.",
        },
        default: {
          description:
            "The service tries again on a schedule that respects Retry-After, then parks the delivery. It does not follow redirects.",
        },
      },
    },
  };
}
