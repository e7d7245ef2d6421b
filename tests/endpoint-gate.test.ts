import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { egress } from "../shared/egress.ts";
import type { FactBody } from "../shared/telemetry/events.ts";
import type { PostOutcome } from "../worker/endpoint/endpoint.ts";
import { type CircuitBreakers, circuitBreakers, type PermitResult } from "../worker/endpoint/circuit-breaker.ts";
import { strangerLines } from "../worker/shares/lines.ts";
import { httpPost, type Post } from "../worker/endpoint/http.ts";
import { type Endpoint, startEndpoint } from "./servers/endpoint.ts";

const never = new AbortController().signal;
const URL_A = "https://a.example";
const accepted: PostOutcome = { kind: "accepted", status: 200, ms: 1 };
const refused = (status: number | null, retryAt: Date | null = null): PostOutcome => ({
  kind: "refused",
  status,
  ms: 1,
  reason: "no",
  words: null,
  retry: "later",
  retryAt,
  gone: status === 410,
});

/** Gates over a clock that the test moves; the n-th rest takes n times 10 s. */
function gatesAt(perEndpoint = 2, waitMs = 30) {
  const clock = { now: 1_000_000 };
  const facts: FactBody[] = [];
  const recovered: string[] = [];
  const breakers = circuitBreakers({
    lines: strangerLines({ inHand: 512 }),
    waitMs,
    emit: (fact) => facts.push(fact),
    onRecovered: (endpoint) => recovered.push(endpoint),
    backoff: { rest: (times) => times * 10_000 },
    now: () => clock.now,
  });
  const bounds = { initial: perEndpoint, min: perEndpoint, max: perEndpoint };
  const targetOf = (url: string, changedAt = 0) => {
    const destination = { own: { name: url, bounds }, site: { name: `site of ${url}`, bounds } };
    return { url, destination, owner: "a mailbox", changedAt };
  };
  const acquire: Gates["acquire"] = (url, signal, changedAt) => breakers.acquire(targetOf(url, changedAt), signal);
  const gates: Gates = { ...breakers, acquire };
  return { gates, clock, facts, recovered };
}

type Gates = Omit<CircuitBreakers, "acquire"> & {
  acquire(url: string, signal: AbortSignal, changedAt?: number): Promise<PermitResult>;
};

function going(entry: PermitResult): Extract<PermitResult, { kind: "go" }> {
  assert.equal(entry.kind, "go", JSON.stringify(entry));
  if (entry.kind !== "go") throw new Error("unreachable");
  return entry;
}

async function deliver(gates: Gates, outcome: PostOutcome | undefined, endpoint = URL_A): Promise<void> {
  going(await gates.acquire(endpoint, never)).release(outcome);
}

async function trouble(gates: Gates, times: number): Promise<void> {
  for (let time = 0; time < times; time++) await deliver(gates, refused(500));
}

describe("The gate of an endpoint", () => {
  test("lets so many in at once and the next one when somebody leaves", async () => {
    const { gates } = gatesAt(2, 60_000);
    const first = going(await gates.acquire(URL_A, never));
    going(await gates.acquire(URL_A, never));
    const third = gates.acquire(URL_A, never);
    const state = await Promise.race([third, new Promise((resolve) => setTimeout(resolve, 20, "waiting"))]);
    assert.equal(state, "waiting");
    first.release(accepted);
    first.release(accepted);
    going(await third);
  });

  test("sends the next ones away for a while when nobody leaves, and does not hold up another endpoint", async () => {
    const { gates } = gatesAt(1, 30);
    going(await gates.acquire(URL_A, never));
    const second = gates.acquire(URL_A, never);
    going(await gates.acquire("https://b.example", never));
    const entry = await second;
    assert.deepEqual([entry.kind, entry.kind === "rest" && entry.busy], ["rest", true]);
  });

  test("stops waiting when the signal aborts", async () => {
    const { gates } = gatesAt(1, 60_000);
    const inside = going(await gates.acquire(URL_A, never));
    const stop = new AbortController();
    const waiting = gates.acquire(URL_A, stop.signal);
    stop.abort(new DOMException("stopping", "AbortError"));
    await assert.rejects(waiting, { name: "AbortError" });
    inside.release(undefined);
    going(await gates.acquire(URL_A, never));
  });

  test("those who wait for an endpoint that is paused meanwhile are sent away until it is tried again", async () => {
    const { gates, clock } = gatesAt(5, 60_000);
    const inside = await Promise.all(Array.from({ length: 5 }, () => gates.acquire(URL_A, never)));
    const waiting = Array.from({ length: 20 }, () => gates.acquire(URL_A, never));
    assert.equal(gates.isPaused(URL_A), false);
    for (const one of inside) going(one).release(refused(null));
    const until = new Date(clock.now + 10_000);
    for (const one of waiting) assert.deepEqual(await one, { kind: "rest", until, busy: false });
    assert.equal(gates.isPaused(URL_A), true);
    clock.now += 10_000;
    assert.equal(gates.isPaused(URL_A), false);
  });
});

describe("The circuit breaker of an endpoint", () => {
  test("sends it to rest after five troubles in a row, each rest longer than the one before", async () => {
    const { gates, clock, facts } = gatesAt();
    await trouble(gates, 4);
    assert.equal(facts.length, 0);
    await trouble(gates, 1);
    const until = new Date(clock.now + 10_000);
    assert.deepEqual(facts, [{ kind: "endpoint.paused", endpoint: URL_A, until: until.toISOString(), failures: 5 }]);
    assert.deepEqual(await gates.acquire(URL_A, never), { kind: "rest", until, busy: false });
    clock.now += 10_000;
    await trouble(gates, 1);
    const entry = await gates.acquire(URL_A, never);
    assert.deepEqual(entry, { kind: "rest", until: new Date(clock.now + 20_000), busy: false });
    assert.deepEqual(gates.counts(), { known: 1, resting: 1 });
  });

  test("a mailbox that was changed since the last failure probes a paused endpoint once", async () => {
    const { gates, clock } = gatesAt();
    await trouble(gates, 5);
    const changedAt = ++clock.now;
    const probe = going(await gates.acquire(URL_A, never, changedAt));
    assert.equal((await gates.acquire(URL_A, never, changedAt)).kind, "rest", "one at a time");
    probe.release(refused(401));
    assert.equal((await gates.acquire(URL_A, never, changedAt)).kind, "rest", "it failed with the new settings too");
    going(await gates.acquire(URL_A, never, ++clock.now)).release(accepted);
    going(await gates.acquire(URL_A, never));
  });

  test("an endpoint where nobody was has its pause ended early, but not again and again in vain", async () => {
    const { gates } = gatesAt();
    const absent = { ...refused(null), unreached: true } as PostOutcome;
    const proxy = { ...refused(502) };
    for (let time = 0; time < 5; time++) await deliver(gates, time % 2 ? absent : proxy);
    for (let time = 0; time < 5; time++) {
      assert.deepEqual(gates.listAbsent(), [URL_A]);
      gates.endPause(URL_A);
      assert.deepEqual(gates.listAbsent(), []);
      await deliver(gates, absent);
    }
    assert.deepEqual(gates.listAbsent(), []);
    assert.equal(gates.isPaused(URL_A), true);
  });

  test("an endpoint that says no, or when to come again, is not asked before its pause ends", async () => {
    for (const outcome of [refused(500), refused(null), refused(503, new Date(2_000_000)), refused(429)]) {
      const { gates } = gatesAt();
      for (let time = 0; time < 5; time++) await deliver(gates, outcome);
      assert.equal(gates.isPaused(URL_A), true);
      assert.deepEqual(gates.listAbsent(), []);
    }
  });

  test("lets a single delivery try after the rest, and all in once that one was accepted", async () => {
    const { gates, clock, recovered } = gatesAt();
    await trouble(gates, 5);
    clock.now += 10_000;
    const probe = going(await gates.acquire(URL_A, never));
    assert.equal((await gates.acquire(URL_A, never)).kind, "rest");
    assert.deepEqual(recovered, []);
    probe.release(accepted);
    assert.deepEqual(recovered, [URL_A]);
    going(await gates.acquire(URL_A, never));
    going(await gates.acquire(URL_A, never));
    assert.equal(gates.counts().resting, 0);
  });

  test("lets another delivery try when the one that tried was given up", async () => {
    const { gates, clock } = gatesAt();
    await trouble(gates, 5);
    clock.now += 10_000;
    going(await gates.acquire(URL_A, never)).release(undefined);
    going(await gates.acquire(URL_A, never));
  });

  test("does not count refusals of single messages, and begins again after a success", async () => {
    const { gates, facts } = gatesAt();
    for (const status of [413, 422, 400, 410, 413, 422]) await deliver(gates, refused(status));
    await trouble(gates, 4);
    await deliver(gates, accepted);
    await trouble(gates, 4);
    assert.equal(facts.length, 0);
  });

  test("rests as long as the endpoint itself asked for", async () => {
    const { gates, clock } = gatesAt();
    await trouble(gates, 4);
    const until = new Date(clock.now + 3_000_000);
    await deliver(gates, refused(429, until));
    assert.deepEqual(await gates.acquire(URL_A, never), { kind: "rest", until, busy: false });
  });

  test("does not count those who were still inside when the rest began", async () => {
    const { gates, facts } = gatesAt(3);
    const late = [going(await gates.acquire(URL_A, never)), going(await gates.acquire(URL_A, never))];
    await trouble(gates, 5);
    for (const entry of late) entry.release(refused(null));
    assert.equal(facts.length, 1);
  });

  test("forgets endpoints that nobody used for an hour", async () => {
    const { gates, clock } = gatesAt();
    for (let index = 0; index < 100; index++) await deliver(gates, accepted, `https://${index}.example`);
    clock.now += 3_700_000;
    await deliver(gates, accepted, "https://new.example");
    assert.equal(gates.counts().known, 1);
  });
});

describe("Gate and client with a real endpoint", () => {
  let broken: Endpoint;
  let hung: Endpoint;
  let post: Post;

  before(async () => {
    [broken, hung] = await Promise.all([startEndpoint({ secret: null }), startEndpoint({ secret: null })]);
    post = httpPost({ egress: egress("allow"), timeoutMs: 10_000 });
  });
  after(async () => {
    post.close();
    await Promise.all([broken.stop(), hung.stop()]);
  });

  async function deliverTo(gates: Gates, url: string): Promise<string> {
    const entry = await gates.acquire(url, never);
    if (entry.kind === "rest") return "rest";
    const outcome = await post({ url, headers: {}, body: "{}" }, never);
    entry.release(outcome);
    return outcome.kind;
  }

  test("an endpoint in trouble gets five messages, then one per rest, and all again when it is mended", async () => {
    const { gates, clock, recovered } = gatesAt();
    broken.answer(() => ({ status: 503 }));
    for (let round = 0; round < 20; round++) await deliverTo(gates, broken.url);
    assert.equal(broken.requests.length, 5);
    clock.now += 10_000;
    for (let round = 0; round < 5; round++) await deliverTo(gates, broken.url);
    assert.equal(broken.requests.length, 6);
    broken.answer(() => ({}));
    clock.now += 20_000;
    assert.equal(await deliverTo(gates, broken.url), "accepted");
    assert.deepEqual(recovered, [new URL(broken.url).origin]);
    assert.equal(await deliverTo(gates, broken.url), "accepted");
  });

  test("a hung endpoint holds only its own places", async () => {
    const { gates } = gatesAt(3, 60_000);
    hung.answer(() => ({ hang: true }));
    broken.answer(() => ({}));
    const held = Array.from({ length: 3 }, () => deliverTo(gates, hung.url));
    await hung.waitFor(() => hung.requests.length === 3);
    for (let round = 0; round < 10; round++) assert.equal(await deliverTo(gates, broken.url), "accepted");
    assert.deepEqual(hung.open(), { now: 3, most: 3 });
    await hung.stop();
    assert.deepEqual(await Promise.all(held), ["refused", "refused", "refused"]);
  });
});
