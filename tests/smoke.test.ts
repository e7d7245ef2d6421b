/** The smoke test: one mail through the whole service on whichever runtime runs this file (Bun, Node or Deno). */
import assert from "node:assert/strict";
import { test } from "node:test";
import { message } from "./servers/mail.ts";
import { scene } from "./stories/scene.ts";

// The sources themselves run too.
delete process.env["SERVICE_DIR"];

test("a mail reaches its endpoint, signed and whole, and the service stops in good order", async () => {
  const s = await scene();
  try {
    const { id, user } = await s.mailbox();
    const parts = { subject: "Grüße", text: "Hello\r\n", attachments: [{ filename: "a.bin", content: "bytes" }] };
    await s.mail.append(user, "INBOX", message(parts));
    const { json, id: webhookId } = await s.endpoint.waitFor((request) => request.verified);
    const { data } = json as any;
    assert.equal(data.deliveryId, webhookId);
    assert.equal(data.mailbox.id, id);
    assert.equal(data.subject, "Grüße");
    assert.equal(data.text.trim(), "Hello");
    assert.equal(Buffer.from(data.attachments[0].content, "base64").toString(), "bytes");
    assert.equal((await s.service.stop()).code, 0);
    assert.equal(s.endpoint.requests.length, 1);
  } finally {
    await s.end();
  }
});
