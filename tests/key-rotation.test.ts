/** A change of keys, node by node, while mail flows: no task is parked, and no mail is lost, however carelessly it is done. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { Secret } from "../shared/contract/secret.ts";
import { vault } from "../shared/store/vault.ts";
import { message } from "./servers/mail.ts";
import { scene } from "./stories/scene.ts";
import { readConfig } from "../shared/config.ts";
import { clusterRig, expect, type Rig } from "./cluster-rig.ts";
import { provide, type TestContext } from "./servers/provide.ts";
import type { RabbitMq } from "./servers/rabbitmq.ts";
import type { Redis } from "./servers/redis.ts";
import type { Service } from "./service.ts";

const newKey = (id: string) => `${id}:${randomBytes(32).toString("base64")}`;
const [k1, k2] = [newKey("k1"), newKey("k2")];

let redis: Redis | undefined;
let rabbit: RabbitMq | undefined;
before(async () => {
  [redis, rabbit] = await Promise.all([
    provide("redis").then((provided) => provided?.server),
    provide("rabbitmq").then((provided) => provided?.server),
  ]);
});
after(async () => {
  await redis?.remove();
  await rabbit?.remove();
});

/** The nodes with the new key in front are there while the others do not know it. */
async function rotated(t: TestContext, withBroker: boolean, story: (rig: Rig) => Promise<void>) {
  if (!redis || (withBroker && !rabbit)) return t.skip("no redis or no rabbitmq");
  const brokers = withBroker && rabbit ? { rabbitUrl: rabbit.url } : {};
  const rig = await clusterRig({ redisUrl: redis.url, ...brokers, env: { ENCRYPTION_KEYS: k1 } });
  return story(rig).finally(() => rig.end());
}

async function nothingParked(at: Service): Promise<void> {
  const { items } = expect(await at.call("GET", "/api/v1/parked"), 200);
  assert.deepEqual(items, []);
}

function allListening(at: Service): Promise<boolean> {
  return at.until("all mailboxes to be listened to", async () => {
    const { items } = expect(await at.call("GET", "/api/v1/mailboxes?status=listening"), 200);
    return items.length === 3;
  });
}

const readyzOf = async (at: Service) => (await at.call("GET", "/readyz")).body;

describe("a change of keys, node by node", () => {
  for (const broker of [true, false])
    test(`loses nothing and parks nothing, also where the old nodes lack the new key (${broker ? "RabbitMQ" : "Redis alone"})`, (t) =>
      rotated(t, broker, async (rig) => {
        const old = [await rig.api("api-0"), ...(broker ? [await rig.worker("worker-0")] : [])];
        const [first] = old;
        assert.ok(first);
        const ids = await rig.register(first, 3);
        await allListening(first);
        for (const id of ids) await rig.send(id);
        await rig.arrived();

        const next = await rig.api("api-1", { ENCRYPTION_KEYS: `${k2},${k1}` });
        for (const node of old)
          await node.until("to notice that a key is missing", async () => !(await readyzOf(node)).ok);
        assert.match(JSON.stringify(await readyzOf(first)), /"keys".*key \\"k2\\" is missing/);
        for (const id of ids) await rig.send(id);
        await rig.arrived();
        await nothingParked(next);
        // Shown by the node that cannot decrypt them, too.
        const listed = expect(await first.call("GET", "/api/v1/mailboxes"), 200);
        assert.deepEqual(
          listed.items.map(({ state }: any) => state.problem?.code),
          ["config", "config", "config"],
        );

        for (const node of old) await node.stop();
        await allListening(next);
        for (const id of ids) await rig.send(id);
        await rig.arrived();
        await nothingParked(next);
        assert.equal((await readyzOf(next)).ok, true);
      }));
});

describe("a secret that no key decrypts any more", () => {
  test("parks what cannot be delivered without it where it is shown, once, and nothing else", async () => {
    const s = await scene({ ENCRYPTION_KEYS: k1 });
    try {
      const [{ id, user }, other] = [await s.mailbox(), await s.mailbox()];
      s.endpoint.answer(() => ({ status: 503 }));
      await s.mail.append(user, "INBOX", message({ subject: "waiting" }));
      await s.service.until("the first attempt", () => s.service.facts.some(({ kind }) => kind === "mail.retrying"));
      await s.service.stop();
      const foreign = vault([{ id: "k1", key: new Secret(randomBytes(32).toString("base64")) }]);
      const database = new DatabaseSync(join(s.service.dataDir, "email-listener.db"));
      const { doc } = database.prepare("select doc from mailboxes where id = ?").get(id) as { doc: string };
      const broken = JSON.parse(doc);
      broken.deliver.secret = foreign.seal("whsec_x", `${id}|deliver.secret`);
      database.prepare("update mailboxes set doc = ? where id = ?").run(JSON.stringify(broken), id);
      database.close();
      s.endpoint.answer(() => ({}));
      await s.service.start();

      const parked = () => s.service.call("GET", "/api/v1/parked");
      const { items } = await s.service.until("the parked delivery", async () => {
        const { body } = await parked();
        return body.total > 0 && body;
      });
      assert.deepEqual(
        items.map(({ kind, mailbox, reason }: any) => [kind, mailbox, /"k1" is not the one/.test(reason)]),
        [["delivery", id, true]],
      );
      const listed = await s.service.call("GET", "/api/v1/mailboxes");
      const problems = listed.body.items.map((item: any) => [item.id, item.state.problem?.code]);
      assert.deepEqual(
        new Map(problems),
        new Map([
          [id, "config"],
          [other.id, undefined],
        ]),
      );
      await s.mail.append(other.user, "INBOX", message({ subject: "other" }));
      await s.endpoint.waitFor((request) => (request.json as any).data.subject === "other");
      assert.equal((await parked()).body.total, 1);
    } finally {
      await s.end();
    }
  });
});

describe("keys", () => {
  test("two with one id are refused at the start", () => {
    assert.throws(() => readConfig({ ENCRYPTION_KEYS: `${k1},${newKey("k1")}` }), /ENCRYPTION_KEYS.*same id/);
    assert.throws(() => readConfig({ ENCRYPTION_KEYS: `${k1},${k1}` }), /ENCRYPTION_KEYS.*same id/);
    assert.equal(readConfig({ ENCRYPTION_KEYS: `${k1},${k2}` }).ENCRYPTION_KEYS.length, 2);
  });

  test("that the command makes have an id of their own each, also on one day", () => {
    const main = fileURLToPath(new URL("../api/cli/keys.ts", import.meta.url));
    const made = [1, 2, 3].map(() => spawnSync(process.execPath, [main], { encoding: "utf8" }).stdout.trim());
    const keys = readConfig({ ENCRYPTION_KEYS: made.join(",") }).ENCRYPTION_KEYS;
    assert.equal(new Set(keys.map(({ id }) => id)).size, 3);
  });
});
