/** `keys rotate` over Redis: beside running nodes, killed and run again, and refused where it would do harm. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { readConfig } from "../shared/config.ts";
import { redisStore } from "../shared/store/redis/store.ts";
import { findUnreadableSecret } from "../shared/store/sealed-mailboxes.ts";
import { vault } from "../shared/store/vault.ts";
import { clusterRig, expect, flowing } from "./cluster-rig.ts";
import { bothRuntimes } from "./service.ts";
import { applicationOf } from "./promises/stores-applications.ts";
import { sendingOf } from "./promises/outboxes.ts";
import { deliveryOf } from "./promises/samples.ts";
import { message } from "./servers/mail.ts";
import { type Redis, startRedis } from "./servers/redis.ts";
import { startRedisCluster } from "./servers/redis-groups.ts";
import { newKey, rotate, startRotation } from "./stories/rotation.ts";

const [k1, k2] = [newKey("k1"), newKey("k2")];
/** The first node and these rotations run on Node, everything else on Bun. */
const ON_NODE = bothRuntimes("api-0");

let redis: Redis;
before(async () => {
  redis = await startRedis();
});
after(() => redis.remove());

describe("keys rotate, in Redis", () => {
  const MESSAGES = 1_500;

  test("killed again and again beside running nodes loses nothing, and ends when no node needs the old key", async () => {
    const rig = await clusterRig({
      command: bothRuntimes,
      redisUrl: redis.url,
      env: { ENCRYPTION_KEYS: `${k1},${k2}` },
    });
    try {
      const first = await rig.api("api-0");
      await rig.register(first, 2);
      const prefix = rig.env["REDIS_PREFIX"] ?? "";
      const store = await redisStore({
        url: redis.url,
        prefix,
        vault: vault(readConfig({ ENCRYPTION_KEYS: `${k1},${k2}` }).ENCRYPTION_KEYS),
        windowDays: 7,
        spoolBytes: 1e9,
      });
      const raw = Buffer.from(message({ subject: "parked", text: "A-PARKED-BODY" }));
      for (let n = 0; n < MESSAGES; n += 100) {
        const ids = Array.from({ length: 100 }, (_, i) => `parked-${n + i}`);
        await Promise.all(
          ids.map((id) =>
            store.deliveries.save(
              deliveryOf(id, { state: "parked", mailbox: "box-0", endpoint: rig.endpoint.url }),
              raw,
            ),
          ),
        );
      }
      await store.close();
      const countBy = async (key: string) => {
        const heads = await Promise.all(
          Array.from({ length: MESSAGES }, (_, n) =>
            redis.command("GETRANGE", `${prefix}:{box-0}:raw:parked-${n}`, "0", "8"),
          ),
        );
        return heads.filter((head) => head === `key:2:${key}:`).length;
      };
      assert.equal(await countBy("k1"), MESSAGES);

      const mail = flowing(rig, 2);
      const env = { ...rig.env, ENCRYPTION_KEYS: `${k2},${k1}` };
      let isHalfDone = false;
      for (let tries = 0; tries < 20 && !isHalfDone; tries++) {
        const child = startRotation(env);
        const isOver = () => child.exitCode !== null;
        const earlier = await countBy("k2");
        // It stands still while its work is counted, and so it cannot be done before it is seen in the middle.
        for (let atWork = false; !isOver() && !atWork;) {
          child.kill("SIGSTOP");
          atWork = (await countBy("k2")) > earlier;
          if (!atWork) child.kill("SIGCONT");
          if (!atWork) await sleep(20);
        }
        if (!isOver()) {
          child.kill("SIGKILL");
          await once(child, "close");
        }
        const done = await countBy("k2");
        isHalfDone ||= done > 0 && done < MESSAGES;
        if (done === MESSAGES) break;
      }
      assert.ok(isHalfDone, "it was killed in the middle");
      const early = await rotate(env);
      assert.equal(early.code, 1);
      assert.match(early.output, /Still in use: k1\. These nodes encrypt with them: api-0\./);
      assert.equal(await countBy("k2"), MESSAGES);

      const second = await rig.api("api-1", { ENCRYPTION_KEYS: `${k2},${k1}` });
      await first.stop();
      const late = await rotate(env);
      assert.match(late.output, /Nothing needs another key/);
      assert.equal(late.code, 0);
      const nodes = expect(await second.call("GET", "/api/v1/nodes"), 200);
      assert.deepEqual(nodes.items[0].keys, ["k2", "k1"]);
      const last = await rig.api("api-2", { ENCRYPTION_KEYS: k2 });
      await second.stop();
      await mail.end();
      await rig.arrived();
      assert.equal(expect(await last.call("GET", "/api/v1/parked?limit=1"), 200).total, MESSAGES);
      expect(await last.call("POST", "/api/v1/deliveries/parked-7/replay"), 202);
      await last.until("the parked message", () =>
        rig.endpoint.received.some((one) => one.raw.includes("A-PARKED-BODY")),
      );
    } finally {
      await rig.end();
    }
  });

  test("changes nothing while a node lacks the new key, and names the node", async () => {
    const rig = await clusterRig({ command: bothRuntimes, redisUrl: redis.url, env: { ENCRYPTION_KEYS: k1 } });
    try {
      const node = await rig.api("api-0");
      await rig.register(node, 1);
      const { code, output } = await rotate({ ...rig.env, ENCRYPTION_KEYS: `${k2},${k1}` }, ON_NODE);
      assert.equal(code, 1);
      assert.match(output, /begins with the key "k2", which is missing on api-0/);
      const other = await rotate({ ...rig.env, ENCRYPTION_KEYS: `${newKey("k1")},${k2}` });
      assert.match(other.output, /"k1", which is missing on api-0/, "another key of the same name");
      const wrong = await rotate({ ...rig.env, ENCRYPTION_KEYS: k1, REDIS_PREFIX: "none:" });
      assert.equal(wrong.code, 0);
      assert.match(wrong.output, /^0 mailboxes, 0 messages, 0 tokens and 0 applications/m);
      const canaries = await redis.command("HKEYS", `${rig.env["REDIS_PREFIX"]}:{*}:canaries`);
      assert.deepEqual(
        (canaries as string[]).filter((tag) => tag.startsWith("k2")),
        [],
      );
      const id = expect(await node.call("GET", "/readyz"), 200);
      assert.equal(id.ok, true);
    } finally {
      await rig.end();
    }
  });
});

describe("keys rotate, in a Redis Cluster", () => {
  test("encrypts mailboxes, messages and tokens of all slots again, beside a running node, and loses nothing", async () => {
    const cluster = await startRedisCluster();
    const rig = await clusterRig({
      command: bothRuntimes,
      redisUrl: cluster.url,
      env: { ENCRYPTION_KEYS: `${k1},${k2}` },
    });
    try {
      const first = await rig.api("api-0");
      const ids = await rig.register(first, 6);
      const [prefix = "", tokenId] = [rig.env["REDIS_PREFIX"], "0123456789abcdef"];
      const openWith = (keys: string) =>
        redisStore({
          url: cluster.url,
          prefix,
          vault: vault(readConfig({ ENCRYPTION_KEYS: keys }).ENCRYPTION_KEYS),
          windowDays: 7,
          spoolBytes: 1e9,
        });
      const earlier = await openWith(`${k1},${k2}`);
      const raw = Buffer.from(message({ subject: "parked", text: "A-PARKED-BODY" }));
      const sendAt = new Date(Date.now() + 3_600_000).toISOString();
      for (const mailbox of ids) {
        await earlier.deliveries.save(deliveryOf(`d-${mailbox}`, { state: "parked", mailbox }), raw);
        await earlier.outbox.accept(sendingOf(`s-${mailbox}`, { mailbox, sendAt }), raw, 10);
      }
      const rights = { scopes: ["read" as const], mailboxPrefix: "", expiresAt: null, lastUsedAt: null };
      const createdAt = new Date().toISOString();
      await earlier.tokens.add({ id: tokenId, name: "t", hash: "00", createdAt, createdBy: "x", ...rights });
      await earlier.applications.put(applicationOf("contoso"));
      await earlier.close();

      const early = await rotate({ ...rig.env, ENCRYPTION_KEYS: `${k2},${k1}` }, ON_NODE);
      assert.match(
        early.output,
        /6 mailboxes, 12 messages, 1 tokens and 1 applications were encrypted again with the key k2/,
      );
      assert.match(early.output, /Still in use: k1\. These nodes encrypt with them: api-0\./);
      const second = await rig.api("api-1", { ENCRYPTION_KEYS: `${k2},${k1}` });
      await first.stop();
      const late = await rotate({ ...rig.env, ENCRYPTION_KEYS: `${k2},${k1}` }, ON_NODE);
      assert.match(late.output, /Nothing needs another key/);
      assert.equal(late.code, 0);
      await second.stop();

      const later = await openWith(k2);
      try {
        for (const mailbox of ids) {
          const found = await later.mailboxes.get(mailbox);
          assert.equal(found && findUnreadableSecret(found.mailbox), undefined);
          assert.deepEqual(Buffer.from((await later.deliveries.getRaw(`d-${mailbox}`)) ?? []), raw);
          assert.deepEqual(Buffer.from((await later.outbox.getRaw(`s-${mailbox}`)) ?? []), raw);
        }
        assert.equal((await later.tokens.get(tokenId))?.name, "t");
        const { clientSecret } = (await later.applications.get("contoso")) ?? {};
        assert.equal(clientSecret?.reveal(), "secret of contoso");
      } finally {
        await later.close();
      }
    } finally {
      await rig.end();
      await cluster.remove();
    }
  });
});
