/** Wrong credentials: counted by address, slowed, refused by 429, reported, and no harm to other addresses. */
import assert from "node:assert/strict";
import { request } from "node:http";
import { describe, test } from "node:test";
import { groupOf, guessLimiter } from "../api/http/guesses.ts";
import { Problem } from "../shared/contract/problem.ts";
import { generateEncryptionKey } from "../shared/store/encryption-keys.ts";
import { redisStore } from "../shared/store/redis/store.ts";
import type { WrongCredentials } from "../shared/store/access-rules.ts";
import { vault } from "../shared/store/vault.ts";
import type { FactBody } from "../shared/telemetry/events.ts";
import { movableClock } from "./clock.ts";
import { startRedis } from "./servers/redis.ts";
import { type ApiNode, startApi } from "./api-node.ts";

const never = new AbortController().signal;

const nthAddress = (n: number) => `10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`;

/** A limiter and what it reported. */
function limiter(everywhere?: WrongCredentials) {
  const facts: FactBody[] = [];
  const guesses = guessLimiter((fact) => facts.push(fact), everywhere);
  const wrong = (address: string) =>
    guesses.refuse(address, AbortSignal.abort()).then(
      () => true,
      (error: unknown) => (error as { code: string }).code !== "guesses",
    );
  return { facts, guesses, wrong };
}

async function countWrong(
  wrong: (address: string) => Promise<boolean>,
  address: string,
  tries: number,
): Promise<number> {
  let taken = 0;
  for (let n = 0; n < tries; n++) taken += Number(await wrong(address));
  return taken;
}

describe("the limit of wrong credentials", () => {
  test("an address may be wrong 100 times, then ten times a minute, and is reported once", async () => {
    using clock = movableClock();
    const { facts, guesses, wrong } = limiter();
    assert.equal(await countWrong(wrong, "203.0.113.7", 500), 100);
    assert.throws(() => guesses.check("203.0.113.7"), { code: "guesses" });
    guesses.check("203.0.113.8");
    for (let minute = 1; minute <= 5; minute++) {
      await clock.advance(60_000);
      assert.equal(await countWrong(wrong, "203.0.113.7", 50), 10);
    }
    assert.equal(facts.filter(({ kind }) => kind === "access.refused").length, 150);
    assert.deepEqual(
      facts.filter(({ kind }) => kind === "access.limited"),
      [{ kind: "access.limited", address: "203.0.113.7" }],
    );
    await clock.advance(3_600_000);
    assert.equal(await countWrong(wrong, "203.0.113.7", 500), 100);
    assert.equal(facts.filter(({ kind }) => kind === "access.limited").length, 2);
  });

  test("it says when to try again, and guesses that come at once are counted as they come", async () => {
    const { guesses } = limiter();
    const all = Array.from({ length: 300 }, () => guesses.refuse("203.0.113.7", AbortSignal.abort()));
    const results = await Promise.allSettled(all);
    const refused = results.filter((one) => one.status === "rejected");
    assert.equal(refused.length, 200);
    const [first] = refused;
    assert.ok(first?.reason instanceof Problem && first.reason.retry instanceof Date);
    const { retry } = first.reason;
    assert.ok(retry.getTime() > Date.now() && retry.getTime() <= Date.now() + 6_001);
  });

  test("all addresses of an IPv6 /64 are one, an IPv4 address is the same in IPv6 form, others are not touched", async () => {
    const { guesses, wrong } = limiter();
    for (let n = 0; n < 100; n++) await wrong(`2001:db8:1:2::${n.toString(16)}`);
    assert.throws(() => guesses.check("2001:db8:1:2:ffff:1:2:3"), { code: "guesses" });
    guesses.check("2001:db8:1:3::1");
    await countWrong(wrong, "::ffff:203.0.113.7", 100);
    assert.throws(() => guesses.check("203.0.113.7"), { code: "guesses" });
    assert.equal(groupOf("2001:db8:1:2::9"), "2001:db8:1:2::/64");
    assert.deepEqual([groupOf(""), groupOf("not an address")], ["unknown", "unknown"]);
  });

  test("it remembers at most 10,000 addresses and forgets those that were wrong longest ago", async () => {
    const { guesses, wrong } = limiter();
    await countWrong(wrong, "203.0.113.7", 100);
    for (let n = 0; n < 9_999; n++) await wrong(nthAddress(n));
    assert.throws(() => guesses.check("203.0.113.7"), { code: "guesses" });
    await wrong(nthAddress(9_999));
    guesses.check("203.0.113.7");
  });

  test("the answers come more slowly with each wrong one", async () => {
    const { guesses } = limiter();
    const spent = async () => {
      const began = performance.now();
      await guesses.refuse("203.0.113.7", never);
      return performance.now() - began;
    };
    for (let n = 0; n < 90; n++) await guesses.refuse("203.0.113.7", AbortSignal.abort());
    assert.ok((await spent()) > 300);
  });
});

describe("nodes that share a Redis", () => {
  test("count wrong credentials together, for each address, and go on counting while Redis is away", async () => {
    const redis = await startRedis();
    const key = { id: "k1", key: generateEncryptionKey() };
    const settings = { url: redis.url, prefix: "shared", vault: vault([key]), windowDays: 7, spoolBytes: 1e6 };
    const stores = await Promise.all([redisStore(settings), redisStore(settings)]);
    try {
      const [one, other] = stores.map((store) => limiter(store.wrongCredentials));
      assert.ok(one && other);
      assert.equal(await countWrong(one.wrong, "203.0.113.7", 60), 60);
      const beyond = await countWrong(other.wrong, "203.0.113.7", 60);
      assert.ok(beyond >= 40 && beyond <= 50, `${beyond} after the 60 of the other node`);
      assert.throws(() => other.guesses.check("203.0.113.7"), { code: "guesses" });
      const late = await countWrong(one.wrong, "203.0.113.7", 60);
      assert.ok(late <= 10, `${late} where the other node has taken the rest`);
      assert.equal(await countWrong(other.wrong, "203.0.113.8", 20), 20);
      const left = other.facts.findLast(({ kind }) => kind === "access.refused");
      assert.deepEqual(left && "triesLeft" in left && left.triesLeft, 80);
      const ttl = await redis.command("PTTL", "shared:{*}:guesses:203.0.113.8");
      assert.ok(Number(ttl) > 0 && Number(ttl) <= 20 * 6_000, `it is gone after ${ttl} ms`);

      await redis.remove();
      assert.equal(await countWrong(other.wrong, "203.0.113.9", 3), 3);
      const failed = other.facts.filter((fact) => fact.kind === "service.failed");
      assert.deepEqual(
        failed.map((fact) => [fact.what, fact.failure.code === "store" || fact.failure.code === "timeout"]),
        Array.from({ length: 3 }, () => ["counting wrong credentials over all nodes", true]),
      );
    } finally {
      for (const store of stores) await store.close();
      await redis.remove();
    }
  });
});

type Answered = { status: number; retryAfter: string | undefined };

/** A request from one of this machine's addresses. */
function ask(url: string, from: string, headers: Record<string, string>, method = "GET"): Promise<Answered> {
  return new Promise((resolve, reject) => {
    const sent = request(url, { method, headers, localAddress: from, agent: false }, (response) => {
      response.resume();
      resolve({ status: response.statusCode ?? 0, retryAfter: response.headers["retry-after"] });
    });
    sent.on("error", reject);
    sent.end();
  });
}

async function withNode(env: Record<string, string>, work: (node: ApiNode) => Promise<void>): Promise<void> {
  const node = await startApi(env);
  try {
    await work(node);
  } finally {
    await node.close();
  }
}

const passes = (status: number) => status !== 401 && status !== 403 && status !== 429;
const RIGHT = "right-0123456789";

describe("guesses over HTTP", () => {
  for (const [what, env, path, method, credentials] of [
    ["a bearer token", {}, () => "/api/v1/mailboxes", "GET", (word: string) => ({ authorization: `Bearer ${word}` })],
    [
      "basic credentials of CRM_ACCESS",
      { CRM_ACCESS: `basic:crm:${RIGHT}` },
      () => "/api/listeners/state",
      "POST",
      (word: string) => ({ authorization: `Basic ${Buffer.from(`crm:${word}`).toString("base64")}` }),
    ],
    [
      "the segment of CRM_ACCESS",
      { CRM_ACCESS: `path:${RIGHT}` },
      (word: string) => `/${word}/api/listeners/state`,
      "POST",
      () => ({}),
    ],
  ] as const) {
    test(`${what}: whoever guesses gets 429 with Retry-After, also when the guess is right, and nobody else does`, () =>
      withNode({ API_TOKENS: RIGHT, ...env }, async (node) => {
        const send = (from: string, word: string) =>
          ask(node.url + path(word), from, { "content-type": "application/json", ...credentials(word) }, method);
        assert.ok(passes((await send("127.0.0.9", RIGHT)).status));
        const guessed = await Promise.all(
          Array.from({ length: 150 }, (_, n) => send("127.0.0.9", `guess-${n}-123456`)),
        );
        assert.equal(guessed.filter(({ status }) => status === 401 || status === 403).length, 100);
        const limited = guessed.filter(({ status }) => status === 429);
        assert.equal(limited.length, 50);
        for (const { retryAfter } of limited) assert.ok(Number(retryAfter) >= 1 && Number(retryAfter) <= 7);
        assert.equal((await send("127.0.0.9", RIGHT)).status, 429);
        assert.ok(passes((await send("127.0.0.10", RIGHT)).status));
        const facts = node.told.filter(({ kind }) => kind === "access.limited");
        assert.deepEqual(
          facts.map((fact) => "address" in fact && fact.address),
          ["127.0.0.9"],
        );
        const told = JSON.stringify(node.told.filter(({ kind }) => kind.startsWith("access.")));
        assert.ok(!told.includes("guess-"));
        const metrics = await node.call("GET", "/metrics", undefined, { authorization: `Bearer ${RIGHT}` });
        assert.match(metrics.text, /email_listener_refused_credentials_total 100/);
        assert.match(metrics.text, /email_listener_limited_addresses_total 1/);
      }));
  }

  test("requests without any credentials are no guesses", () =>
    withNode({ API_TOKENS: RIGHT }, async (node) => {
      for (let n = 0; n < 150; n++) assert.equal((await ask(`${node.url}/metrics`, "127.0.0.9", {})).status, 401);
      const right = { authorization: `Bearer ${RIGHT}` };
      assert.equal((await ask(`${node.url}/metrics`, "127.0.0.9", right)).status, 200);
    }));
});
