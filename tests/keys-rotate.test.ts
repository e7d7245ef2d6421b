/** `keys rotate` over a SQLite file: beside the running service, and refused where there is nothing. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { expect } from "./cluster-rig.ts";
import { message } from "./servers/mail.ts";
import { newKey, rotate } from "./stories/rotation.ts";
import { scene } from "./stories/scene.ts";

const [k1, k2] = [newKey("k1"), newKey("k2")];

describe("keys rotate, in a SQLite file", () => {
  test("works beside the running service, and ends when the service uses the new key", async () => {
    const s = await scene({ ENCRYPTION_KEYS: k1, RETRY_HOURS: "0.001" });
    try {
      const { id, user } = await s.mailbox();
      s.endpoint.answer(() => ({ status: 400 }));
      await s.mail.append(user, "INBOX", message({ subject: "parked" }));
      await s.service.until("the parked delivery", () => s.service.facts.some(({ kind }) => kind === "mail.parked"));
      s.endpoint.answer(() => ({}));
      const env = { DATA_DIR: s.service.dataDir, NODE_ENV: "test", REDIS_URL: "", ENCRYPTION_KEYS: `${k2},${k1}` };
      const unknown = await rotate(env);
      assert.equal(unknown.code, 1);
      assert.match(unknown.output, /"k2", which is missing on the running service/);

      await s.service.stop();
      await s.service.start({ ENCRYPTION_KEYS: `${k1},${k2}` });
      const early = await rotate(env);
      assert.match(
        early.output,
        /1 mailboxes, 1 messages, 0 tokens and 0 applications were encrypted again with the key k2[\s\S]*Still in use: k1/,
      );
      await s.mail.append(user, "INBOX", message({ subject: "meanwhile" }));
      await s.endpoint.waitFor((request) => (request.json as any).data.subject === "meanwhile");

      await s.service.stop();
      await s.service.start({ ENCRYPTION_KEYS: `${k2},${k1}` });
      const late = await rotate(env);
      assert.match(late.output, /Nothing needs another key/);
      assert.equal(late.code, 0);
      await s.service.stop();
      await s.service.start({ ENCRYPTION_KEYS: k2 });
      const { items } = expect(await s.service.call("GET", "/api/v1/parked"), 200);
      assert.deepEqual(
        items.map(({ mailbox }: any) => mailbox),
        [id],
      );
      expect(await s.service.call("POST", "/api/v1/parked/replay", {}), 202);
      await s.endpoint.waitFor((request) => (request.json as any).data.subject === "parked" && request.earlier > 0);
    } finally {
      await s.end();
    }
  });

  test("without a store, or with a wrong word, says so", async () => {
    const { code, output } = await rotate({ DATA_DIR: "/nowhere", REDIS_URL: "", ENCRYPTION_KEYS: k1 });
    assert.equal(code, 1);
    assert.match(output, /DATA_DIR holds no store/);
  });
});
