/** Stories of mail that goes out: what arrives at the mail server, and how often. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { outgoing } from "./stories/outgoing.ts";

describe("sending", { timeout: 240_000 }, () => {
  test("a message is composed, sent once and told as sent", async () => {
    const s = await outgoing();
    try {
      const { id, address } = await s.sender();
      const answer = await s.send(
        id,
        { to: [{ name: "Bób", address: "bob@example.net" }], subject: "Grüße" },
        { wait: 20 },
      );
      assert.equal(answer.status, 200, JSON.stringify(answer.body));
      assert.equal(answer.body.state, "sent");
      const [taken] = await s.smtp.waitFor(1);
      assert.equal(taken?.from, address);
      assert.deepEqual(taken?.to, ["bob@example.net"]);
      assert.ok(taken?.raw.includes(`Message-ID: ${answer.body.messageId}`), taken?.raw);
    } finally {
      await s.end();
    }
  });
});
