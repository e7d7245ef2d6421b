/** What a node says of its mailboxes after it was killed: nothing that was true only before. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { scene } from "./stories/scene.ts";

test("after kill -9 no mailbox is said to be listening before it is", async () => {
  const s = await scene();
  try {
    for (let n = 0; n < 12; n++) await s.mailbox();
    const listening = async () => (await s.service.call("GET", "/api/v1/mailboxes?status=listening")).body.total;
    assert.equal(await listening(), 12);
    await s.service.kill();
    await s.mail.stop();
    await s.service.start();
    assert.equal(await listening(), 0, "as soon as the node answers");
    const { items } = (await s.service.call("GET", "/api/v1/mailboxes")).body;
    const named = new Set(items.map((one: { state: { status: string } }) => one.state.status));
    assert.ok(
      [...named].every((status) => ["initializing", "reconnecting"].includes(String(status))),
      `${[...named]}`,
    );
    await s.mail.start();
    await s.service.until("all to be listened to again", async () => (await listening()) === 12);
    assert.equal(s.mail.connections, 12);
  } finally {
    await s.end();
  }
});
