/** The other direction in the OpenAPI document: what the service sends to an endpoint, and how it takes the answers. */

const HEADERS = {
  "webhook-id":
    "The delivery id: the same over retries and replays, so it serves to recognise what was received before.",
  "webhook-timestamp": "Seconds since 1970 when this attempt was signed.",
  "webhook-signature":
    "`v1,` and the HMAC-SHA256 of `{id}.{timestamp}.{body}` under the mailbox's secret, in base64 (Standard Webhooks 1.0.0).",
};

/** The `webhooks` section; `message` is the schema of the body. */
export function webhooks(message: Record<string, unknown>): Record<string, unknown> {
  return {
    messageReceived: {
      post: {
        operationId: "messageReceived",
        tags: ["Webhooks"],
        summary: "A message arrived",
        description:
          "One POST to `deliver.url` for each message. With format headers the body has no text, html or attachment contents; " +
          "with format raw it is the message itself (`message/rfc822`), mailbox and folder in `x-email-listener-*` headers.",
        security: [],
        parameters: Object.entries(HEADERS).map(([name, description]) => ({
          name,
          in: "header",
          required: true,
          description,
          schema: { type: "string" },
        })),
        requestBody: {
          required: true,
          content: { "application/json": { schema: message }, "message/rfc822": { schema: { type: "string" } } },
        },
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
    },
  };
}
