/** Shares of those who keep tasks waiting: how many visits each may have, who waits in which line, and what memory that may take. */
import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { describe, test } from "node:test";
import { turns } from "../shared/concurrency/turns.ts";
import type { Mailbox } from "../shared/contract/mailbox.ts";
import type { Task } from "../shared/contract/task.ts";
import type { PerformTask } from "../shared/queue/queue.ts";
import { admitInTurn } from "../worker/shares/admission.ts";
import { answersOf, type Bounds } from "../worker/shares/answers.ts";
import { type Destination, LineFull, strangerLines, type Visit } from "../worker/shares/lines.ts";
import { memoryShares } from "../worker/shares/memory.ts";
import { destinationsOf } from "../worker/shares/strangers.ts";
import { eventually } from "./servers/waiting.ts";

const never = new AbortController().signal;
const turned = () => new Promise((resolve) => setImmediate(resolve));
const MIB = 1024 * 1024;

/** A clock that the test moves, in milliseconds. */
function movedClock() {
  let time = 1_000_000;
  return { now: () => time, move: (ms: number) => void (time += ms) };
}

const destination = (name: string, site = `site of ${name}`): Destination => ({
  own: { name, bounds: { initial: 2, min: 1, max: 8 } },
  site: { name: site, bounds: { initial: 8, min: 2, max: 16 } },
});

/** Enters in the background; `inside` are the visits there are. */
function entering(lines: ReturnType<typeof strangerLines>, to: Destination, owner: string, count: number) {
  const inside: Visit[] = [];
  const refused: unknown[] = [];
  const stop = new AbortController();
  for (let n = 0; n < count; n++) {
    lines
      .enter(to, owner, {}, stop.signal)
      .then((visit) => inside.push(visit))
      .catch((error: unknown) => refused.push(error));
  }
  return { inside, refused, stop };
}

const byName = ({ own }: Destination) => (own.name.startsWith("good") ? "answering" : "silent");

/** Memory of so many MiB, in which those whose name begins with `good` answer. */
function memoryOf(mib: number) {
  const memory = memoryShares(mib * MIB, { standing: byName });
  const acquire = (owner: string, size: number, heldFor = destination(owner), nextFor?: Destination) =>
    memory.acquire({ owner, bytes: size * MIB, heldFor, nextFor }, {}, never);
  return acquire;
}
const isThere = async (wait: Promise<unknown>) => {
  let there = false;
  void wait.then(() => (there = true));
  await turned();
  return there;
};

const mailbox = (id: string, url: string): Mailbox => {
  const receive = { protocol: "imap", host: `${id}.example`, auth: { user: id, password: "x" }, tls: "implicit" };
  return { id, address: `${id}@example.com`, receive, deliver: { url } } as unknown as Mailbox;
};
const task = (id: string): Task => ({ version: 1, kind: "redeliver", mailbox: id, delivery: id });

async function getMailbox(id: string) {
  const url = `https://${id.replace(/\d+$/, "")}.example/`;
  return { mailbox: mailbox(id, url), state: undefined as never };
}

function admitting(perform: PerformTask, inHand = 64) {
  const lines = strangerLines({ inHand });
  const getDestinations = destinationsOf({ deliveriesPerEndpoint: 16, readersPerMailbox: 2 });
  const paused = new Set<string>();
  const deps = {
    mailboxes: { get: getMailbox },
    lines,
    getDestinations,
    isPaused: (url: string) => paused.has(url),
    inHand,
  };
  return {
    perform: admitInTurn(deps, perform),
    lines,
    paused,
    destinationOf: (id: string) => getMailbox(id).then((found) => getDestinations(found.mailbox).endpoint),
  };
}

describe("how a stranger answered lately", () => {
  const bounds: Bounds = { initial: 4, min: 2, max: 32 };

  /** Answers so many visits that begin together, each after `ms`. */
  function rounds(count: number, { ms = 100, isSite = false } = {}) {
    const clock = movedClock();
    const answers = answersOf(bounds, { now: clock.now, isSite });
    const round = (took: number, how: "answered" | "failed" = "answered", visits = answers.limit()) => {
      const open = Array.from({ length: visits }, () => answers.begin());
      for (const visit of open) visit.start();
      clock.move(took);
      for (const visit of open) visit.end(how);
    };
    for (let n = 0; n < count; n++) round(ms);
    return { clock, answers, round };
  }

  test("whoever answers gets more visits with each round of them, up to the most", () => {
    const { answers, round } = rounds(0);
    assert.deepEqual([answers.limit(), answers.standing()], [4, "unknown"]);
    const limits: number[] = [];
    for (let n = 0; n < 8; n++) {
      round(100);
      limits.push(answers.limit());
    }
    assert.deepEqual(
      limits.toSorted((a, b) => a - b),
      limits,
    );
    assert.ok((limits[0] ?? 0) > 4 && limits.at(-1) === 32, limits.join(" "));
    assert.equal(answers.standing(), "answering");
  });

  test("whoever does not use its visits gets no more of them", () => {
    const { answers, round } = rounds(0);
    for (let n = 0; n < 50; n++) round(100, "answered", 1);
    assert.equal(answers.limit(), 4);
  });

  test("answers that become slower because there are too many at once bring the limit down again, but not below its begin", () => {
    const { answers, round } = rounds(60);
    assert.equal(answers.limit(), 32);
    for (let n = 0; n < 3; n++) round(2_000);
    assert.ok(answers.limit() < 32, `${answers.limit()}`);
    for (let n = 0; n < 50; n++) round(2_000 * (n + 1));
    assert.ok(answers.limit() >= 4);
  });

  test("a failure halves the limit, and the stranger is silent until it answers again", () => {
    const { answers, round } = rounds(60);
    round(100, "failed", 1);
    assert.deepEqual([answers.standing(), answers.limit()], ["silent", 2]);
    round(100, "answered", 1);
    assert.deepEqual([answers.standing(), answers.limit()], ["answering", 16]);
  });

  test("it is silent when it owes an answer for longer than its answers take, however slow it is by nature", () => {
    const { clock, answers } = rounds(20, { ms: 5_000 });
    answers.begin().start();
    clock.move(14_000);
    assert.equal(answers.standing(), "answering");
    clock.move(2_000);
    assert.equal(answers.standing(), "silent");
    const unknown = rounds(0);
    unknown.answers.begin().start();
    assert.equal(unknown.answers.standing(), "unknown");
    unknown.clock.move(1_001);
    assert.equal(unknown.answers.standing(), "silent");
  });

  test("a part of an answer is an answer, and a visit that has not started owes none", () => {
    const { clock, answers } = rounds(1);
    answers.begin();
    clock.move(100_000);
    assert.equal(answers.standing(), "answering");
    const visit = answers.begin();
    visit.start();
    clock.move(5_000);
    assert.equal(answers.standing(), "silent");
    visit.progress();
    assert.equal(answers.standing(), "answering");
  });

  test("a silent stranger gets the fewest visits and a few probes, the next after twice the time", () => {
    const { clock, answers } = rounds(60);
    answers.begin().start();
    const limits: number[] = [];
    for (const ms of [1_100, 2_000, 4_000, 8_000, 100_000]) {
      clock.move(ms);
      limits.push(answers.limit());
    }
    assert.deepEqual(limits, [3, 4, 5, 6, 6]);
  });

  test("a second end of a visit, and an unclear one, change nothing", () => {
    const { answers } = rounds(1);
    const before = answers.limit();
    const visit = answers.begin();
    visit.start();
    visit.end("unclear");
    visit.end("failed");
    assert.deepEqual([answers.limit(), answers.standing(), answers.inFlight], [before, "answering", 0]);
  });
});

describe("lines that are served in turn", () => {
  test("each owner has its turn, however many of another wait before", async () => {
    const line = turns<string, number>();
    const order: string[] = [];
    const wait = (owner: string, name: string) => void line.wait(owner, name, {}).then(() => order.push(name));
    for (let n = 0; n < 5; n++) wait("many", `many ${n}`);
    wait("one", "one");
    wait("two", "two");
    await turned();
    assert.deepEqual([line.size, line.waiting("many")], [7, 5]);
    while (line.size > 0) {
      const [next] = line.heads();
      next?.admit(1);
    }
    await turned();
    assert.deepEqual(order, ["many 0", "one", "two", "many 1", "many 2", "many 3", "many 4"]);
    assert.equal(line.last(), undefined);
  });
});

describe("the lines of strangers", () => {
  test("a stranger that hangs has its few visits, and whoever waits for another one does not wait", async () => {
    const lines = strangerLines({ inHand: 512 });
    const hung = entering(lines, destination("hung"), "a", 50);
    await turned();
    assert.equal(hung.inside.length, 2);
    for (let n = 0; n < 20; n++) (await lines.enter(destination(`good ${n}`), "b", {}, never)).end("answered");
    assert.deepEqual(lines.counts(), { known: 42, visits: 4, waiting: 48 });
    hung.stop.abort(new DOMException("stopping", "AbortError"));
    await turned();
    assert.equal(lines.counts().waiting, 0);
    assert.equal(getEventListeners(hung.stop.signal, "abort").length, 0);
  });

  test("the silent ones of a site have a small part of it, and the others the rest", async () => {
    const clock = movedClock();
    const lines = strangerLines({ inHand: 512, now: clock.now });
    const hung = Array.from({ length: 8 }, (_, n) => entering(lines, destination(`hung ${n}`, "one site"), `h${n}`, 1));
    await turned();
    assert.equal(hung.flatMap(({ inside }) => inside).length, 8, "nobody knows them yet");
    clock.move(1_500);
    const others = Array.from({ length: 8 }, (_, n) =>
      entering(lines, destination(`good ${n}`, "one site"), `g${n}`, 1),
    );
    await turned();
    assert.equal(others.flatMap(({ inside }) => inside).length, 8, "all of the others");
    const more = entering(lines, destination("hung 0", "one site"), "h0", 1);
    await turned();
    assert.equal(more.inside.length, 0, "no more of the silent ones");
  });

  test("mailboxes that wait for the same stranger are served in turn", async () => {
    const lines = strangerLines({ inHand: 512 });
    const to = destination("busy");
    const served: string[] = [];
    const held = [await lines.enter(to, "x", {}, never), await lines.enter(to, "x", {}, never)];
    const waiting = [..."aaaaab"].map(async (owner) => {
      const visit = await lines.enter(to, owner, {}, never);
      served.push(owner);
      visit.end("answered");
    });
    for (const visit of held) visit.end("unclear");
    await Promise.all(waiting);
    assert.ok(served.indexOf("b") <= 2, served.join(""));
  });

  test("whoever waits too long, or for one where nothing is to be had, learns when to come again", async () => {
    const lines = strangerLines({ inHand: 512 });
    const to = destination("hung");
    const inside = [await lines.enter(to, "a", {}, never), await lines.enter(to, "a", {}, never)];
    await assert.rejects(lines.enter(to, "a", { ms: 5 }, never), (error) => error instanceof LineFull);
    const waiting = entering(lines, to, "a", 3);
    await turned();
    lines.clear(to);
    await turned();
    assert.equal(waiting.refused.length, 3);
    assert.ok(waiting.refused.every((error) => error instanceof LineFull && error.at.getTime() > Date.now()));
    for (const visit of inside) visit.end("unclear");
    assert.deepEqual(lines.counts().visits, 0);
  });

  test("those who wait for a stranger that turns out to be silent are sent away but for two", async () => {
    const clock = movedClock();
    const lines = strangerLines({ inHand: 512, now: clock.now });
    const waiting = entering(lines, destination("hung"), "a", 20);
    await turned();
    clock.move(60_000);
    await eventually(() => waiting.refused.length > 0, "those who were sent away");
    await turned();
    // Two for the stranger itself, and the probes for the small part of its site that silent ones have.
    assert.ok(lines.counts().waiting <= 4, `${lines.counts().waiting}`);
    // Two at first, and four probes.
    assert.ok(waiting.inside.length <= 6, `${waiting.inside.length}`);
    waiting.stop.abort(new DOMException("stopping", "AbortError"));
  });

  test("while few wait nobody is put off; beyond that tasks are told to come again one after the other", async () => {
    const clock = movedClock();
    const lines = strangerLines({ inHand: 512, now: clock.now });
    const to = destination("slow");
    assert.equal(lines.offerAgainAt(to, "a", 0), undefined);
    const waiting = entering(lines, to, "a", 200);
    await turned();
    const offers = Array.from({ length: 600 }, () => lines.offerAgainAt(to, "a", 0)?.getTime() ?? 0);
    assert.ok(offers.every((time) => time > Date.now()));
    assert.deepEqual(offers.toSorted(), offers, "one after the other");
    assert.ok((offers.at(-1) ?? 0) - (offers[0] ?? 0) > 1_500, "not all at the same time");
    waiting.stop.abort(new DOMException("stopping", "AbortError"));
  });

  test("a mailbox that floods an endpoint is put off, and the others find their places in its line", async () => {
    const lines = strangerLines({ inHand: 512 });
    const to = destination("crm");
    (await lines.enter(to, "other", {}, never)).end("answered");
    const flood = entering(lines, to, "flood", 1_000);
    await turned();
    assert.ok(lines.offerAgainAt(to, "flood", 0));
    const others = Array.from({ length: 30 }, (_, n) => `other ${n}`);
    for (const owner of others) {
      assert.equal(lines.offerAgainAt(to, owner, 500), undefined);
      entering(lines, to, owner, 1);
    }
    await turned();
    const [served] = flood.inside;
    served?.end("answered");
    flood.stop.abort(new DOMException("stopping", "AbortError"));
  });

  test("a stranger that was silent for long is asked again after half of that time, five minutes at most", async () => {
    const clock = movedClock();
    const lines = strangerLines({ inHand: 512, now: clock.now });
    const to = destination("down");
    for (const ms of [60_000, 240_000, 86_400_000]) {
      const visit = await lines.enter(to, "a", {}, never);
      clock.move(ms);
      visit.end("failed");
    }
    const inside = entering(lines, to, "a", 10);
    await turned();
    const waits = Array.from({ length: 5_000 }, () => (lines.offerAgainAt(to, "a", 0)?.getTime() ?? 0) - Date.now());
    assert.ok(Math.max(...waits) <= 300_000 * 1.2 + 1_000 && Math.max(...waits) > 200_000, `${Math.max(...waits)}`);
    inside.stop.abort(new DOMException("stopping", "AbortError"));
  });

  test("a stranger that nobody visited for an hour is forgotten", async () => {
    const clock = movedClock();
    const lines = strangerLines({ inHand: 512, now: clock.now });
    for (let n = 0; n < 500; n++) (await lines.enter(destination(`s${n}`), "a", {}, never)).end("answered");
    assert.equal(lines.counts().known, 1_000);
    clock.move(3_700_000);
    await lines.enter(destination("another"), "a", {}, never);
    assert.equal(lines.counts().known, 2);
  });
});

describe("shares of memory", () => {
  test("those who do not answer hold at most half of it together, and others do not wait for them", async () => {
    const acquire = memoryOf(64);
    const silent = Array.from({ length: 40 }, (_, n) => acquire(`hung ${n}`, 4));
    const inside = (await Promise.all(silent.map(isThere))).filter(Boolean);
    assert.equal(inside.length, 4, "16 of 32 MiB for messages that are not large");
    for (let n = 0; n < 20; n++) (await acquire(`good ${n}`, 4))[Symbol.dispose]();
  });

  test("one stranger has a share: one that does not answer an eighth, and one message whatever its size", async () => {
    const acquire = memoryOf(64);
    await acquire("hung", 2);
    await acquire("hung", 2);
    assert.equal(await isThere(acquire("hung", 2)), false);
    await acquire("huge", 8);
    assert.equal(await isThere(acquire("huge", 1)), false);
  });

  test("large messages wait for large ones only, however large: one beside those that do not answer", async () => {
    const acquire = memoryOf(64);
    const hung = await acquire("hung", 500);
    assert.equal(await isThere(acquire("hung too", 500)), false);
    const good = await acquire("good 1", 500);
    const next = acquire("good 2", 500);
    assert.equal(await isThere(next), false);
    (await acquire("good small", 1))[Symbol.dispose]();
    good[Symbol.dispose]();
    await next;
    hung[Symbol.dispose]();
  });

  test("what was downloaded counts to the endpoint, no longer to the mail host", async () => {
    const acquire = memoryOf(64);
    const held = await Promise.all(
      [1, 2, 3, 4].map((n) => acquire(`good ${n}`, 4, destination(`good ${n}`, "one host"))),
    );
    const next = acquire("good 5", 4, destination("good 5", "one host"));
    assert.equal(await isThere(next), false);
    held[0]?.moveTo(destination("good endpoint"));
    await next;
  });

  test("nothing is downloaded for an endpoint that has its share already", async () => {
    const acquire = memoryOf(64);
    const endpoint = destination("hung endpoint");
    const first = await acquire("good 1", 4, destination("good 1"), endpoint);
    first.moveTo(endpoint);
    const second = acquire("good 2", 1, destination("good 2"), endpoint);
    assert.equal(await isThere(second), false);
    await acquire("good 3", 1, destination("good 3"), destination("good endpoint"));
    first[Symbol.dispose]();
    await second;
  });

  test("a mailbox that floods holds an eighth of it, whomever its messages wait for", async () => {
    const acquire = memoryOf(64);
    const [endpoint, host] = [destination("good endpoint"), destination("good mailbox", "good host")];
    const first = await acquire("flood", 4, host, endpoint);
    first.moveTo(endpoint);
    assert.equal(await isThere(acquire("flood", 4, host, endpoint)), false);
    await acquire("other", 4, destination("good other", "good host"), endpoint);
  });

  test("a wait that is called off, or takes too long, leaves nothing behind", async () => {
    const memory = memoryShares(64 * MIB, { standing: () => "answering" });
    const request = (owner: string) => ({ owner, bytes: 8 * MIB, heldFor: destination(owner) });
    const stop = new AbortController();
    const held = await Promise.all(
      ["a", "b", "c", "d"].map((owner) => memory.acquire(request(owner), {}, stop.signal)),
    );
    const limits = { ms: 5, late: () => new Error("too late") };
    await assert.rejects(memory.acquire(request("e"), limits, stop.signal), /too late/);
    const waiting = memory.acquire(request("f"), {}, stop.signal);
    stop.abort(new DOMException("stopping", "AbortError"));
    await assert.rejects(waiting, { name: "AbortError" });
    assert.equal(getEventListeners(stop.signal, "abort").length, 0);
    for (const one of held) one[Symbol.dispose]();
    await memory.acquire(request("g"), {}, never);
  });
});

describe("admission of tasks", () => {
  test("of the tasks for an endpoint that hangs few are in hand, the others come again later as if nothing had been", async () => {
    let begun = 0;
    const { perform, lines, destinationOf } = admitting(async ({ mailbox: id }, _attempt, signal) => {
      begun += 1;
      using visit = await lines.enter(await destinationOf(id), id, {}, signal);
      if (id.startsWith("good")) return (visit.end("answered"), { kind: "done" });
      await new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
      return { kind: "done" };
    });
    const stop = new AbortController();
    const outcomes: string[] = [];
    const hung = Array.from({ length: 200 }, (_, n) =>
      perform(task(`hung${n}`), 1, stop.signal)
        .then(({ kind }) => outcomes.push(kind))
        .catch(() => undefined),
    );
    await eventually(() => outcomes.length > 100, "those that are put off");
    assert.ok(outcomes.every((kind) => kind === "later"));
    assert.ok(begun <= 4 + 64 / 8, `${begun} in hand`);
    for (let n = 0; n < 50; n++) assert.deepEqual(await perform(task(`good${n}`), 1, stop.signal), { kind: "done" });
    stop.abort(new DOMException("stopping", "AbortError"));
    await Promise.all(hung);
  });

  test("many endpoints that hang have a part of what may be in hand, and the rest is for those that answer", async () => {
    const { perform, lines, destinationOf } = admitting(async ({ mailbox: id }, _attempt, signal) => {
      using visit = await lines.enter(await destinationOf(id), id, {}, signal);
      if (id.startsWith("good")) return (visit.end("answered"), { kind: "done" });
      await new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
      return { kind: "done" };
    }, 64);
    const stop = new AbortController();
    assert.deepEqual(await perform(task("good1"), 1, stop.signal), { kind: "done" });
    const outcomes: string[] = [];
    const names = Array.from(
      { length: 200 },
      (_, n) => `hung-${String.fromCodePoint(97 + (n % 26))}-${"x".repeat(n / 26)}`,
    );
    const hung = names.map((name) =>
      perform(task(name), 1, stop.signal)
        .then(({ kind }) => outcomes.push(kind))
        .catch(() => undefined),
    );
    await eventually(() => outcomes.length > 100, "those that are put off");
    assert.ok(lines.counts().visits <= 2 * 32, `${lines.counts().visits}`);
    assert.deepEqual(await perform(task("good2"), 1, stop.signal), { kind: "done" });
    stop.abort(new DOMException("stopping", "AbortError"));
    await Promise.all(hung);
  });

  test("nobody waits in the line of an endpoint that is paused: its tasks are begun at once", async () => {
    const { perform, lines, paused, destinationOf } = admitting(async () => ({ kind: "done" }));
    const to = await destinationOf("crm1");
    const stop = new AbortController();
    const waiting = Array.from({ length: 300 }, () => lines.enter(to, "crm2", {}, stop.signal).catch(() => undefined));
    await turned();
    assert.equal((await perform(task("crm2"), 1, never)).kind, "later");
    paused.add("https://crm.example/");
    assert.equal((await perform(task("crm3"), 1, never)).kind, "done");
    stop.abort(new DOMException("stopping", "AbortError"));
    await Promise.all(waiting);
  });

  test("a task that is sent away from its line comes again later; any other failure stays a failure", async () => {
    const at = new Date(Date.now() + 5_000);
    const full = admitting(async () => {
      throw new LineFull(at);
    });
    assert.deepEqual(await full.perform(task("a"), 1, never), { kind: "later", at });
    const broken = admitting(async () => {
      throw new Error("broken");
    });
    await assert.rejects(broken.perform(task("a"), 1, never), /broken/);
  });
});
