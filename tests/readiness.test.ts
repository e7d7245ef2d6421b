/** A node that cannot do its work gives it back and says so; a key or a store that is missing here is no task's fault. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { Problem } from "../shared/contract/problem.ts";
import { narrowMailbox } from "../shared/mail/defaults.ts";
import { nodeReadiness } from "../shared/readiness.ts";
import { generateEncryptionKey } from "../shared/store/encryption-keys.ts";
import { redisStore } from "../shared/store/redis/store.ts";
import { sqliteStore } from "../shared/store/sqlite/store.ts";
import type { Store } from "../shared/store/store.ts";
import { UnreadableSecret } from "../shared/store/sealed-mailboxes.ts";
import { vault } from "../shared/store/vault.ts";
import type { FactBody } from "../shared/telemetry/events.ts";
import { isProblem } from "./promises/mailbox-rig.ts";
import { mailboxOf } from "./promises/samples.ts";
import { type Redis, startRedis } from "./servers/redis.ts";
import { eventually } from "./servers/waiting.ts";

const [k1, k2] = [
  { id: "k1", key: generateEncryptionKey() },
  { id: "k2", key: generateEncryptionKey() },
];
const settings = { windowDays: 7, spoolBytes: 1e6 };

let redis: Redis;
const stores: Store[] = [];
before(async () => {
  redis = await startRedis();
});
after(async () => {
  for (const store of stores) await store.close();
  await redis.remove();
});

async function openRedis(prefix: string, keys: (typeof k1)[]): Promise<Store> {
  const store = await redisStore({ url: redis.url, prefix, vault: vault(keys), ...settings });
  stores.push(store);
  return store;
}

const missing = new Problem("config", 'The encryption key "k2" is missing', { retry: "never" });

const answer = (fault: Problem | undefined) => (fault ? Promise.reject(fault) : Promise.resolve());

/** A store whose faults the test decides. */
function watched() {
  const faults: { store?: Problem | undefined; keys?: Problem | undefined } = {};
  const facts: FactBody[] = [];
  const store = { ping: () => answer(faults.store), checkKeys: () => answer(faults.store ?? faults.keys) };
  return { faults, facts, readiness: nodeReadiness({ store, emit: (fact) => void facts.push(fact) }) };
}

describe("the readiness of a node", () => {
  test("names what is wrong: the store, or a key", async () => {
    const { faults, readiness } = watched();
    const failed = async () => (await readiness.check()).filter(({ problem }) => problem).map(({ name }) => name);
    assert.deepEqual(await failed(), []);
    faults.keys = missing;
    assert.deepEqual(await failed(), ["keys"]);
    faults.store = new Problem("store", "Redis is away");
    assert.deepEqual(await failed(), ["store"]);
  });

  test("a key that is missing here, and a store or queue that is away, are the node's fault, and nothing else is", async () => {
    const { faults, readiness } = watched();
    const isNodeFault = (code: Problem["code"], retry: "never" | "later" = "later") =>
      readiness.isNodeFault(new Problem(code, "x", { retry }));
    for (const code of ["store", "queue"] as const) assert.equal(await isNodeFault(code), true);
    for (const code of ["auth", "connect", "message", "internal"] as const)
      assert.equal(await isNodeFault(code), false);
    assert.equal(await isNodeFault("store", "never"), false, "what is stored cannot be read by anybody");
    assert.equal(await isNodeFault("config", "never"), false, "all keys are here");
    assert.equal(readiness.problem, null);
    faults.keys = missing;
    assert.equal(await isNodeFault("config", "never"), true);
    assert.equal(readiness.problem, missing, "the node is not ready from now on");
  });

  test("work runs only while the node is ready, and again when it is once more", async () => {
    const { faults, facts, readiness } = watched();
    const stop = new AbortController();
    const looking = readiness.run(stop.signal);
    const events: string[] = [];
    const work = async (signal: AbortSignal) => {
      events.push("begun");
      await new Promise<void>((resolve) => void signal.addEventListener("abort", () => resolve(), { once: true }));
      events.push("ended");
    };
    const running = readiness.runWhileReady(work, stop.signal);
    await eventually(() => events.length === 1, "the work");
    faults.keys = missing;
    await readiness.isNodeFault(missing);
    await eventually(() => events.length === 2, "its end");
    delete faults.keys;
    await eventually(() => events.length === 3, "the work again");
    stop.abort();
    await Promise.all([running, looking]);
    assert.deepEqual(events, ["begun", "ended", "begun", "ended"]);
    assert.deepEqual(
      facts.map(({ kind }) => kind),
      ["service.failed", "service.warned"],
    );
  });
});

describe("encryption keys among several nodes", () => {
  test("a node that lacks a key which another node encrypts with can say so, and those that have it are well", async () => {
    const prefix = randomUUID();
    const old = await openRedis(prefix, [k1]);
    await old.checkKeys();
    const both = await openRedis(prefix, [k2, k1]);
    await assert.rejects(old.checkKeys(), isProblem("config", "never"));
    await both.checkKeys();
  });

  test("what a node with the old key in front writes amid a change of keys is never lost", async () => {
    const prefix = randomUUID();
    const old = await openRedis(prefix, [k1, k2]);
    const first = await old.mailboxes.put(mailboxOf("a"));
    await openRedis(prefix, [k2, k1]);
    const second = await old.mailboxes.put(mailboxOf("b"));
    await old.mailboxes.amend(first, (stored) => ({ ...stored, name: "amended" }));
    // Dropped too early: refused, and nothing is harmed.
    await assert.rejects(openRedis(prefix, [k2]), { code: "config", message: /"k1" is missing/ });
    await openRedis(prefix, [k2, k1]);
    const last = await openRedis(prefix, [k2]);
    assert.deepEqual((await last.mailboxes.get("a"))?.mailbox, { ...first, name: "amended" });
    assert.deepEqual((await last.mailboxes.get("b"))?.mailbox, second);
  });

  for (const kind of ["redis", "sqlite"])
    test(`a mailbox that cannot be decrypted is shown, written back as it is, and used by nobody (${kind})`, async () => {
      const place = randomUUID();
      const store =
        kind === "redis"
          ? await openRedis(place, [k1])
          : await sqliteStore({ path: ":memory:", vault: vault([k1]), ...settings });
      await store.mailboxes.put(mailboxOf("a"));
      const b = await store.mailboxes.put(mailboxOf("b"));
      // Encrypted by a key that no node has, as after a restored backup.
      const foreign = vault([{ id: "k1", key: generateEncryptionKey() }]);
      const password = foreign.seal("secret", "b|receive.auth.password");
      const lost = new UnreadableSecret(password, missing);
      await store.mailboxes.amend(b, (stored) => ({
        ...stored,
        receive: { ...narrowMailbox(stored, "imap").receive, auth: { user: "u", password: lost } },
      }));
      const { items } = await store.mailboxes.list({ limit: 10 });
      assert.deepEqual(
        items.map(({ mailbox }) => mailbox.id),
        ["a", "b"],
      );
      const readPassword = async () => {
        const auth = (await store.mailboxes.get("b"))?.mailbox.receive.auth;
        return auth && "password" in auth ? auth.password.reveal() : undefined;
      };
      await assert.rejects(readPassword(), isProblem("config", "never"));
      assert.equal(await store.mailboxes.amend(b, (stored) => ({ ...stored, name: "B" })), true);
      const auth = (await store.mailboxes.get("b"))?.mailbox.receive.auth;
      assert.ok(auth && "password" in auth && auth.password instanceof UnreadableSecret);
      assert.equal(auth.password.sealed, password);
      if (kind === "sqlite") await store.close();
    });
});
