/** Passwords that a server refuses are shown as seldom as promised: by the gate alone, and by the service as a whole. */
import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { loginGate } from "../shared/mail/net/login-gate.ts";
import { generateEncryptionKey } from "../shared/store/encryption-keys.ts";
import { redisStore } from "../shared/store/redis/store.ts";
import { vault } from "../shared/store/vault.ts";
import { imapBody, register } from "./bodies.ts";
import { clusterEnv } from "./cluster-rig.ts";
import { localLogins } from "./promises/exchange-rig.ts";
import { loginGatePromises } from "./promises/login-gates.ts";
import { isProblem } from "./promises/mailbox-rig.ts";
import { startEndpoint } from "./servers/endpoint.ts";
import { startImapServer } from "./servers/imap/server.ts";
import { message } from "./servers/mail.ts";
import { type Redis, startRedis } from "./servers/redis.ts";
import { eventually } from "./servers/waiting.ts";
import { type Service, startService } from "./service.ts";

const { signal } = new AbortController();
const k1 = { id: "k1", key: generateEncryptionKey() };
const k2 = { id: "k2", key: generateEncryptionKey() };

let redis: Redis;
before(async () => {
  redis = await startRedis();
});
const stores: Awaited<ReturnType<typeof redisStore>>[] = [];
after(async () => {
  for (const store of stores) await store.close();
  await redis.remove();
});
async function openStore(prefix: string, keys = [k1]) {
  const store = await redisStore({ url: redis.url, prefix, vault: vault(keys), windowDays: 7, spoolBytes: 1e6 });
  stores.push(store);
  return store;
}

loginGatePromises("the gate of a node that is alone", async (waitMs) => [localLogins(waitMs)]);
loginGatePromises("the gates of two nodes over Redis", async (waitMs) => {
  const prefix = randomUUID();
  const both = [await openStore(prefix), await openStore(prefix)];
  return both.map((store) => loginGate({ ...store, backoff: { login: () => waitMs } }));
});
loginGatePromises("the gates of two nodes amid a change of keys", async (waitMs) => {
  const prefix = randomUUID();
  const both = [await openStore(prefix, [k1, k2]), await openStore(prefix, [k2, k1])];
  return both.map((store) => loginGate({ ...store, backoff: { login: () => waitMs } }));
});

describe("locks over Redis", () => {
  const limits = { waitMs: 60_000, what: "The test" };

  test("of two nodes that want a lock again and again none is kept out", async () => {
    const prefix = randomUUID();
    const both = [await openStore(prefix), await openStore(prefix)];
    const held: number[] = [];
    let holders = 0;
    const work = (node: number) => async () => {
      assert.equal(++holders, 1);
      held.push(node);
      await sleep(5);
      holders -= 1;
    };
    const node = async (n: number) => {
      // Until the other one has had its turns: whoever is kept out makes this time out.
      while (held.filter((one) => one !== n).length < 3) await both[n]?.locks.hold("a", limits, work(n), signal);
      for (let turn = 0; turn < 3; turn++) await both[n]?.locks.hold("a", limits, work(n), signal);
    };
    await Promise.all([node(0), node(1)]);
  });

  test("a lock that Redis lost ends the work that it was held for", async () => {
    const prefix = randomUUID();
    const { locks, redis: connection } = await openStore(prefix);
    const held = locks.hold(
      "a",
      limits,
      async (its) => {
        await connection.send("flushall", []);
        await sleep(60_000, undefined, { signal: its }).catch(() => undefined);
        throw its.reason;
      },
      signal,
    );
    await assert.rejects(held, isProblem("store", "later"));
  });
});

describe("a password that was changed on the mail server", () => {
  const [USER, OLD] = ["shared@example.com", "yesterday's"];
  const nodes: Service[] = [];
  const ends: (() => Promise<unknown>)[] = [];
  after(async () => {
    for (const node of nodes) await node.end();
    for (const end of ends) await end();
  });

  async function startNodes(count: number): Promise<Service[]> {
    const shared = clusterEnv({ redisUrl: redis.url });
    const alone = { ENCRYPTION_KEYS: `k1:${randomBytes(32).toString("base64")}` };
    const started: Service[] = [];
    for (let n = 0; n < count; n++) {
      const env = { ...(count > 1 ? shared : alone), NODE_NAME: `n${n}`, BACKOFF_SCALE: "0.005" };
      started.push(await startService({ EGRESS_PRIVATE: "allow", ...env }));
    }
    nodes.push(...started);
    return started;
  }

  for (const count of [1, 2])
    test(`is shown three times by all mailboxes with that login, on ${count} nodes`, async () => {
      const mail = await startImapServer();
      ends.push(() => mail.stop());
      await mail.addUser(USER, OLD);
      const endpoint = await startEndpoint();
      ends.push(() => endpoint.stop());
      const started = await startNodes(count);
      const [node] = started;
      assert.ok(node);
      const ids = ["a", "b", "c", "d"].map((name) => `box-${name}`);
      const changes = { receive: { auth: { user: USER, password: OLD } }, deliver: { url: endpoint.url } };
      for (const id of ids) await register(node, imapBody(mail, USER, { id, ...changes }));
      const states = () =>
        Promise.all(ids.map(async (id) => (await node.call("GET", `/api/v1/mailboxes/${id}`)).body.state));
      const all = (status: string) => async () => (await states()).every((state) => state.status === status);
      await node.until("all to listen", all("listening"), 60_000);

      await mail.setPassword(USER, "today's");
      const refused = () => mail.logins.filter(({ ok }) => !ok).length;
      assert.equal(refused(), 0);
      // Large ones are downloaded over connections of their own, whose logins are refused while the subscriptions still hear.
      await mail.append(USER, "INBOX", message({ subject: "large", bytes: 3_000_000 }));
      await eventually(() => refused() > 0, "the first refused login", 60_000);
      await mail.disconnectAll();
      await node.until("all to need a person", all("needs_attention"), 120_000);
      assert.deepEqual(
        (await states()).map(({ failedLogins }) => failedLogins),
        [3, 3, 3, 3],
      );
      assert.equal(refused(), 3);

      const receive = { auth: { password: "today's" } };
      for (const id of ids)
        assert.equal((await node.call("PATCH", `/api/v1/mailboxes/${id}`, { receive })).status, 200);
      await node.until("all to listen again", all("listening"), 60_000);
      await eventually(() => endpoint.requests.length > 0, "the large message", 60_000);
      assert.equal(refused(), 3);
    });
});
