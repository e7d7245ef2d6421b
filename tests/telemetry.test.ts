/** Facts as log lines, as metrics and as each mailbox's history. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { describe, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { Fact, FactBody } from "../shared/telemetry/events.ts";
import { factStream } from "../shared/telemetry/events.ts";
import { history } from "../shared/telemetry/history.ts";
import { logTo } from "../shared/telemetry/log.ts";
import { batchWrites } from "../shared/telemetry/log-stream.ts";
import { recentWaits } from "../shared/queue/recent-waits.ts";
import { type MetricSources, metrics, type StoreCounts } from "../shared/telemetry/metrics.ts";
import { startApi } from "./api-node.ts";
import { exampleBody } from "./bodies.ts";
import { movableClock } from "./clock.ts";
import { eventually } from "./servers/waiting.ts";

const at = "2026-11-22T05:00:00.123Z";
const delivered: FactBody = {
  kind: "mail.delivered",
  mailbox: "m1",
  delivery: "msg_1",
  folder: "INBOX",
  uid: 7,
  bytes: 900,
  ms: 1500,
  attempts: 1,
};
const parked: FactBody = {
  kind: "mail.parked",
  mailbox: "m1",
  delivery: "msg_1",
  endpoint: "https://crm.example.com",
  attempts: 2,
  reason: "answered 500",
};

const lines = (facts: FactBody[], level: "debug" | "info" | "warn" | "error", tty = false, production = false) => {
  const written: string[] = [];
  const out = { write: (text: string) => written.push(text), isTTY: tty };
  const log = logTo(out, { LOG_LEVEL: level, NODE_ENV: production ? "production" : "development" });
  for (const fact of facts) log({ at, ...fact });
  return written;
};

describe("the log", () => {
  test("is one line of JSON for each fact when nobody watches, and in production always", () => {
    for (const [tty, production] of [
      [false, false],
      [true, true],
    ] as const) {
      const [line = ""] = lines([delivered], "info", tty, production);
      assert.ok(line.endsWith("\n"));
      assert.deepEqual(JSON.parse(line), { at, level: "info", ...delivered });
    }
  });

  test("is readable on a terminal: time, level, kind, then the members", () => {
    const about = 'two words and a "quote"\nand a line';
    const [first = "", second = ""] = lines([delivered, { kind: "service.warned", about }], "info", true);
    assert.match(first, /^05:00:00\.123 info {2}mail\.delivered {11}mailbox=m1 delivery=msg_1/);
    assert.equal(second.split("\n").length, 2);
    assert.ok(second.includes(JSON.stringify(about)));
  });

  test("is written at the end of the turn, and together what follows soon, in order", async () => {
    const written: string[] = [];
    const out = batchWrites({ write: (text: string) => written.push(text) });
    for (const text of ["a\n", "b\n"]) out.write(text);
    assert.deepEqual(written, []);
    await turn();
    assert.deepEqual(written, ["a\nb\n"]);
    for (const text of ["c\n", "d\n"]) out.write(text);
    await eventually(() => written.length > 1, "the lines that followed");
    assert.deepEqual(written, ["a\nb\n", "c\nd\n"]);
  });

  test("leaves out what is quieter than its level; requests are for debugging only", () => {
    const request: FactBody = { kind: "http.answered", method: "GET", route: "/", status: 200, ms: 1 };
    assert.equal(lines([request, delivered, parked], "debug").length, 3);
    assert.equal(lines([request, delivered, parked], "info").length, 2);
    assert.equal(lines([request, delivered, parked], "error").length, 1);
  });

  test("is loudest where a person is needed", () => {
    const failure = { code: "auth", cause: "refused" } as const;
    const waits: FactBody = { kind: "mailbox.status", mailbox: "m1", status: "needs_attention", failure };
    const dropped: FactBody = {
      kind: "task.failed",
      task: "deliver",
      mailbox: "m1",
      attempt: 3,
      failure,
      retryAt: null,
    };
    const listens: FactBody = { kind: "mailbox.status", mailbox: "m1", status: "listening" };
    assert.equal(lines([waits, dropped, listens], "error").length, 2);
  });

  test("hides what looks like a secret in somebody else's words", () => {
    const cause = "said Bearer eyJhbGciOi.J9 and whsec_c2VjcmV0c2VjcmV0 and Basic dXNlcjpwYXNz";
    for (const tty of [true, false]) {
      const fact: FactBody = { kind: "service.failed", what: "x", failure: { code: "internal", cause } };
      const [line = ""] = lines([fact], "info", tty);
      for (const secret of ["eyJhbGciOi", "c2VjcmV0", "dXNlcjpwYXNz"]) assert.ok(!line.includes(secret), line);
    }
  });

  test("cuts no ordinary word out of them", () => {
    const cause = "Basic authentication is off, the Bearer challenge too";
    const fact: FactBody = { kind: "service.failed", what: "x", failure: { code: "internal", cause } };
    assert.ok(lines([fact], "info", false)[0]?.includes(cause));
  });
});

const requestBy = (method: string): FactBody => ({
  kind: "http.answered",
  method,
  route: "unknown",
  status: 405,
  ms: 1,
});

const child = fileURLToPath(new URL("./children/log.ts", import.meta.url));

describe("the last facts of a process", () => {
  for (const end of ["throws", "throws in a callback", "rejects", "exits"])
    test(`reach the log when it ${end}`, () => {
      const runtime = "deno" in process.versions ? ["run", "-A", "--no-check"] : [];
      const { stdout, status } = spawnSync(process.execPath, [...runtime, child, end], { encoding: "utf8" });
      const abouts = stdout.split("\n").flatMap((line) => (line === "" ? [] : [JSON.parse(line).about]));
      const numbers = Array.from({ length: 100 }, (_, n) => `last ${n + 1}`);
      assert.deepEqual(abouts, ["first", ...numbers, ...(end === "throws in a callback" ? ["later"] : [])]);
      assert.notEqual(status, 0);
    });

  test("include those that the log's reader has not read, which may be there twice", async () => {
    const confirmations: (() => void)[] = [];
    const stream = batchWrites({ write: (_, written) => void (written && confirmations.push(written)) });
    for (const text of ["a\n", "b\n"]) {
      stream.write(text);
      await eventually(() => confirmations.length === (text === "a\n" ? 1 : 2), "the write");
    }
    confirmations[0]?.();
    stream.write("c\n");
    assert.equal(stream.takeUnwritten(), "\nb\nc\n");
  });
});

describe("a subscriber of facts that throws", () => {
  test("is reported, and gets the facts after that all the same", () => {
    const { emit, subscribe } = factStream();
    const heard: string[] = [];
    const got: string[] = [];
    subscribe(({ kind }) => {
      got.push(kind);
      if (got.length === 1) throw new Error("once");
    });
    subscribe((fact) => void heard.push(fact.kind === "service.failed" ? fact.failure.cause : fact.kind));
    emit(delivered);
    emit(parked);
    assert.deepEqual(got, ["mail.delivered", "service.failed", "mail.parked"]);
    assert.deepEqual(heard.toSorted(), ["Error: once", "mail.delivered", "mail.parked"]);
  });

  test("at every fact, the reports included, ends nothing and is reported once in a minute", () => {
    const { emit, subscribe } = factStream();
    let reports = 0;
    for (const name of ["first", "second"])
      subscribe(() => {
        throw new Error(name);
      });
    subscribe(({ kind }) => void (reports += Number(kind === "service.failed")));
    for (let n = 0; n < 100; n++) emit(delivered);
    assert.equal(reports, 2);
  });
});

describe("metrics", () => {
  const empty: StoreCounts = { mailboxes: { byStatus: {} }, deliveries: {} };
  const sources: MetricSources = {
    ping: async () => undefined,
    store: async () => empty,
    tasks: async () => ({}),
    node: () => ({ connections: { open: 0 } }),
  };
  const rendered = async (facts: FactBody[]) => {
    const measured = metrics(sources);
    for (const fact of facts) measured.onFact({ at, ...fact });
    return measured.render();
  };

  test("count arrivals, deliveries, attempts and problems, and time deliveries in seconds", async () => {
    const failure = { code: "connect", cause: "refused" } as const;
    const text = await rendered([
      { kind: "mail.arrived", mailbox: "m1", folder: "INBOX", count: 3 },
      delivered,
      { kind: "mail.retrying", mailbox: "m1", delivery: "d", endpoint: "e", attempts: 1, reason: "r", retryAt: at },
      parked,
      { kind: "mail.duplicate", mailbox: "m1", folder: "INBOX", uid: 1 },
      { kind: "mailbox.disconnected", mailbox: "m1", failure, retryAt: at },
      { kind: "endpoint.paused", endpoint: "e", until: at, failures: 5 },
    ]);
    for (const line of [
      "email_listener_arrivals_total 3",
      'email_listener_deliveries_total{outcome="delivered"} 1',
      'email_listener_deliveries_total{outcome="parked"} 1',
      'email_listener_deliveries_total{outcome="duplicate"} 1',
      'email_listener_attempts_total{result="accepted"} 1',
      'email_listener_attempts_total{result="refused"} 2',
      'email_listener_problems_total{code="connect"} 1',
      'email_listener_problems_total{code="endpoint"} 1',
      "email_listener_endpoint_pauses_total 1",
      "email_listener_endpoint_rests_total 1",
      "email_listener_delivery_seconds_sum 1.5",
      'email_listener_delivery_seconds_bucket{le="1.5"} 1',
    ]) {
      assert.ok(text.includes(`${line}\n`), line);
    }
  });

  test("ask for what is counted at each rendering, and forget a status that nobody has any more", async () => {
    let byStatus: Record<string, number> = { listening: 2, paused: 1 };
    const measured = metrics({
      ...sources,
      store: async () => ({
        mailboxes: { byStatus, enabled: 6 },
        deliveries: { parked: 4, spoolBytes: 99 },
        size: { usedBytes: 10, limitBytes: 20 },
      }),
      tasks: async () => ({ ready: 5, longestWaitSeconds: 1.5 }),
    });
    const first = await measured.render();
    for (const line of [
      'mailboxes{status="paused"} 1',
      'deliveries{state="parked"} 4',
      "spool_bytes 99",
      'tasks{state="ready"} 5',
      "mailboxes_enabled 6",
      "mailboxes_wanted 6",
      "task_wait_seconds 1.5",
      "store_used_bytes 10",
      "store_limit_bytes 20",
      "queue_up 1",
    ]) {
      assert.ok(first.includes(`email_listener_${line}\n`), line);
    }
    assert.doesNotMatch(await rendered([]), /^email_listener_mailboxes_(enabled|wanted) /m);
    byStatus = { listening: 3 };
    const second = await measured.render();
    assert.ok(second.includes('mailboxes{status="listening"} 3') && !second.includes('status="paused"'));
  });

  test("show the last figures while counting takes long, and count once at a time", async () => {
    let counted = 0;
    const slow = Promise.withResolvers<void>();
    const measured = metrics({
      ...sources,
      async tasks() {
        counted += 1;
        if (counted > 1) await slow.promise;
        return { ready: counted };
      },
    });
    assert.match(await measured.render(), /tasks\{state="ready"\} 1/);
    for (const _ of [2, 3]) assert.match(await measured.render(), /tasks\{state="ready"\} 1/);
    assert.equal(counted, 2);
    slow.resolve();
    await measured.render();
    assert.match(await measured.render(), /tasks\{state="ready"\} 3/);
  });

  test("remember the longest wait of a task for a minute", () => {
    let now = 1_000_000;
    const waits = recentWaits(() => now);
    assert.equal(waits.longestSeconds(), 0);
    waits.record(now - 9_000);
    now += 30_000;
    waits.record(now - 2_000);
    waits.record(now + 500);
    assert.equal(waits.longestSeconds(), 9);
    now += 31_000;
    assert.equal(waits.longestSeconds(), 2);
    now += 31_000;
    assert.equal(waits.longestSeconds(), 0);
  });

  test("have a series for the methods there are, and one for all that are made up", async () => {
    const text = await rendered([requestBy("BREW"), requestBy("WHEN"), requestBy("GET")]);
    assert.match(text, /http_seconds_count\{method="other",route="unknown",status="405"\} 2/);
    assert.ok(!text.includes("BREW"));
  });

  test("while the store is away they are told without its counts", async () => {
    let away = false;
    const measured = metrics({
      ...sources,
      async ping() {
        if (away) throw new Error("Redis is away");
      },
      async store() {
        return { ...empty, mailboxes: { byStatus: { listening: 3 }, enabled: 3 } };
      },
    });
    assert.match(
      await measured.render(),
      /email_listener_store_up 1[^]*email_listener_mailboxes\{status="listening"\} 3/,
    );
    away = true;
    const text = await measured.render();
    assert.match(text, /email_listener_store_up 0/);
    assert.match(text, /process_/);
    assert.doesNotMatch(text, /email_listener_mailboxes(_enabled|_wanted)?(\{| \d)/);
  });

  test("do not wait for a store and a queue that hang", async () => {
    const never = new Promise<never>(() => undefined);
    const text = await metrics({ ...sources, ping: () => never, store: () => never, tasks: () => never }).render();
    for (const line of ["store_up 0", "queue_up 0", "ready 1", "connections_open 0"])
      assert.ok(text.includes(`email_listener_${line}\n`), line);
    assert.doesNotMatch(text, /email_listener_(tasks|task_wait_seconds|spool_bytes)(\{| \d)/);
  });

  test("of two nodes in one process do not meet, and those of the process are there", async () => {
    const [one, two] = [metrics(sources), metrics(sources)];
    one.onFact({ at, ...delivered });
    assert.ok(!(await two.render()).includes('outcome="delivered"} 1'));
    assert.match(await one.render(), /process_resident_memory_bytes \d+/);
  });
});

describe("history", () => {
  test("keeps what happened to each mailbox, newest first, and what came just before the stop", async () => {
    const node = await startApi();
    try {
      await node.call("PUT", "/api/v1/mailboxes/m1", exampleBody());
      const stop = new AbortController();
      using clock = movableClock();
      const running = history({ facts: node.facts, append: node.store.facts.append }).run(stop.signal);
      node.facts.emit({ kind: "mailbox.changed", mailbox: "m1", revision: 2 });
      node.facts.emit({ kind: "service.warned", about: "nothing of a mailbox" });
      const events = async () => (await node.call("GET", "/api/v1/mailboxes/m1/events?limit=10")).body.items;
      await clock.advance(1_000);
      await eventually(async () => (await events()).length === 1, "the first fact");
      node.facts.emit({ kind: "mailbox.changed", mailbox: "m1", revision: 3 });
      stop.abort();
      await running;
      assert.deepEqual(
        (await events()).map((fact: any) => fact.revision),
        [3, 2],
      );
    } finally {
      await node.close();
    }
  });

  test("waits for a store that fails, says so once, and loses nothing meanwhile", async () => {
    const facts = factStream();
    const failures: Fact[] = [];
    facts.subscribe((fact) => fact.kind === "service.failed" && failures.push(fact));
    const kept: Fact[] = [];
    let tries = 0;
    const append = async (batch: Fact[]) => {
      tries += 1;
      if (tries <= 2) throw new Error("The disk is full");
      kept.push(...batch);
    };
    const stop = new AbortController();
    using clock = movableClock();
    const running = history({ facts, append }).run(stop.signal);
    for (let revision = 1; revision <= 2500; revision++)
      facts.emit({ kind: "mailbox.changed", mailbox: "m1", revision });
    for (let second = 0; second < 3; second++) await clock.advance(1_000);
    assert.equal(kept.length, 2500, "all facts are kept");
    stop.abort();
    await running;
    assert.equal(failures.length, 1);
    assert.deepEqual(
      kept.map((fact) => "revision" in fact && fact.revision),
      Array.from({ length: 2500 }, (_, i) => i + 1),
    );
  });

  test("holds no more than ten thousand facts for a store that stays away", async () => {
    const facts = factStream();
    const kept: Fact[] = [];
    const stop = new AbortController();
    const running = history({ facts, append: async (batch) => void kept.push(...batch) }).run(stop.signal);
    for (let revision = 1; revision <= 30_000; revision++)
      facts.emit({ kind: "mailbox.changed", mailbox: "m1", revision });
    stop.abort();
    await running;
    assert.ok(kept.length <= 10_000 && kept.length >= 9_000, String(kept.length));
    const last = kept.at(-1);
    assert.ok(last && "revision" in last && last.revision === 30_000);
  });
});
