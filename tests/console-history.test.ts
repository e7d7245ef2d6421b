/** The measured history of the console: how it is recorded, how ticks come of it, and the pages that show it. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { describe, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import axe from "axe-core";
import type { Page } from "playwright-core";
import { stateRecorder } from "../api/listen/recorder.ts";
import { mailboxStates } from "../api/listen/states.ts";
import { dayBar, sparkline, wordsOfDay } from "../api/pages/console/measured/bar.ts";
import { type DayOfMailbox, type Tick, ticksOf } from "../api/pages/console/measured/day.ts";
import { generateEncryptionKey } from "../shared/store/encryption-keys.ts";
import {
  decodeEntries,
  encodeReport,
  type StateEntry,
  TICK_MS,
  type TickState,
} from "../shared/store/measured/state-entries.ts";
import { sqliteStore } from "../shared/store/sqlite/store.ts";
import { initialState } from "../shared/store/store.ts";
import { vault } from "../shared/store/vault.ts";
import { factStream } from "../shared/telemetry/events.ts";
import { latencyName, periodOf, tallies, type Tally } from "../shared/telemetry/tallies.ts";
import { startApi } from "./api-node.ts";
import { exampleBody } from "./bodies.ts";
import { movableClock } from "./clock.ts";
import { mailboxOf } from "./promises/samples.ts";
import { eventually } from "./servers/waiting.ts";
import { TOKEN } from "./service.ts";
import { browserOnBun, noBrowser } from "./stories/browser.ts";
import { scene } from "./stories/scene.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const MAX_PAGE_BYTES = 60 * 1024;

const lastOf = (all: Tick[], count: number) => all.slice(-count);

describe("the ticks of a day", () => {
  const now = Date.UTC(2026, 10, 30, 12, 7);
  const thisTick = Math.floor(now / TICK_MS);
  const entry = (ago: number, minute: number, worst: TickState, last = worst, run = "a"): StateEntry => ({
    tick: thisTick - ago,
    minute,
    worst,
    last,
    run,
  });
  /** Minutes ago, from and until. */
  const run = (id: string, from: number, until: number) => ({
    id,
    node: id,
    from: now - from * MINUTE,
    until: now - until * MINUTE,
  });
  const ticks = (states: StateEntry[], runs: ReturnType<typeof run>[], more: Partial<DayOfMailbox> = {}) =>
    ticksOf({ states, runs: new Map(runs.map((one) => [one.id, one])), pausedSince: null, now, ...more });

  test("a mailbox that changed nothing stays as it was while its node reports, also over the day before", () => {
    const all = ticks([entry(300, 0, "listening")], [run("a", 10_000, 1)]);
    assert.equal(all.length, 96);
    assert.equal(wordsOfDay(all), "listening 24 h");
  });

  test("before the first entry nothing is known, which is neither good nor bad", () => {
    const all = ticks([entry(2, 9, "listening")], [run("a", 600, 0)]);
    assert.deepEqual(lastOf(all, 4), [null, "listening", "listening", "listening"]);
    assert.equal(wordsOfDay(all), "listening 45 min, no record 23 h 15 min");
    assert.equal(wordsOfDay(ticks([], [])), "no record 24 h");
  });

  test("the worst state of a tick wins, also that with which it began", () => {
    const states = [entry(4, 0, "throttled"), entry(3, 5, "listening"), entry(1, 1, "needs_attention", "listening")];
    const all = ticks(states, [run("a", 600, 0)]);
    assert.deepEqual(lastOf(all, 5), ["throttled", "throttled", "listening", "needs_attention", "listening"]);
  });

  test("after a node died nobody was there, in the tick that is not over too", () => {
    const dead = ticks([entry(5, 0, "listening")], [run("a", 600, 40)]);
    assert.deepEqual(lastOf(dead, 4), ["nobody", "nobody", "nobody", "nobody"]);
    assert.equal(dead.at(-5), "listening");
    const justNow = ticks([entry(5, 0, "listening")], [run("a", 600, 8)], { now: now - 6.5 * MINUTE });
    assert.equal(justNow.at(-1), "listening", "its news may be a minute old");
    const longer = ticks([entry(5, 0, "listening")], [run("a", 600, 9.5)], { now: now - 6.5 * MINUTE });
    assert.equal(longer.at(-1), "nobody");
    assert.equal(ticks([entry(5, 0, "listening")], []).at(-1), "nobody", "a run that is not known proves nothing");
  });

  test("another node that takes over at once leaves no trace, and one that comes late does", () => {
    const runs = [run("a", 600, 35), run("b", 900, 0)];
    const soon = ticks([entry(9, 0, "listening"), entry(2, 3, "listening", "listening", "b")], runs);
    assert.deepEqual(new Set(lastOf(soon, 9)), new Set(["listening"]));
    const late = ticks([entry(9, 0, "listening"), entry(2, 10, "listening", "listening", "b")], runs);
    assert.deepEqual(lastOf(late, 4), ["listening", "nobody", "listening", "listening"]);
  });

  test("a mailbox that its node left has nobody until another takes it", () => {
    const states = [entry(9, 0, "listening"), entry(4, 2, "syncing", "nobody"), entry(2, 14, "listening")];
    const all = ticks(states, [run("a", 900, 0)]);
    assert.deepEqual(lastOf(all, 6), ["listening", "nobody", "nobody", "nobody", "listening", "listening"]);
  });

  test("a paused mailbox needs no node", () => {
    const was = ticks([entry(9, 0, "paused")], [run("a", 600, 100)]);
    assert.equal(was.at(-1), "paused");
    const since = ticks([entry(9, 0, "listening")], [run("a", 600, 40)], { pausedSince: now - 20 * MINUTE });
    assert.deepEqual(lastOf(since, 4), ["nobody", "nobody", "paused", "paused"]);
  });
});

describe("a picture", () => {
  test("of a day has no styles, says its span and its words, and is small for a mailbox that changes all the time", () => {
    const states: Tick[] = Array.from(
      { length: 96 },
      (_, n) => (["listening", "throttled", "nobody", null] as const)[n % 4] ?? null,
    );
    const text = String(dayBar(states));
    assert.match(text, /last 24 h, 15 min per tick: listening 6 h, throttled 6 h, nobody was there 6 h, no record 6 h/);
    assert.ok(!/style|NaN|undefined/.test(text), text);
    assert.ok(text.length < 3_000, `${text.length}`);
    assert.ok(String(dayBar(Array.from({ length: 96 }, () => "listening"))).length < 400);
  });

  test("of a number breaks where nothing was counted", () => {
    const text = String(sparkline([null, 1, null, 4, 2, null], "Words"));
    assert.match(text, /<title>Words<\/title>/);
    assert.equal(text.match(/M/g)?.length, 2);
    assert.ok(!/NaN|style/.test(String(sparkline([], "None")) + text));
  });
});

async function startRecorder() {
  const time = movableClock();
  const keys = vault([{ id: "test", key: generateEncryptionKey() }]);
  const store = await sqliteStore({ path: ":memory:", vault: keys, windowDays: 7, spoolBytes: 1e6 });
  const facts = factStream();
  const board = mailboxStates({ mailboxes: store.mailboxes, emit: facts.emit, node: "here" });
  const stop = new AbortController();
  const periods = { PROBE_SECONDS: 60, FOLDER_POLL_SECONDS: 30 };
  const part = stateRecorder({ ...store, facts, board, node: "here", periods });
  const counting = tallies({ facts, count: store.measures.count });
  const running = [part.run(stop.signal), counting.run(stop.signal)];
  /** A mailbox whose subscription begins here now. */
  const hold = async (id: string) => {
    await store.mailboxes.put(mailboxOf(id));
    const found = await store.mailboxes.get(id);
    assert.ok(found);
    return board.reporter(found);
  };
  const listen = async (id: string) => {
    const reporter = await hold(id);
    reporter.markVerified();
    reporter.setStatus("listening", null);
    return reporter;
  };
  /** Passes in steps, as time does. */
  const pass = async (ms: number) => {
    for (let left = ms; left > 0; left -= 5_000) {
      await time.advance(Math.min(5_000, left));
      for (let n = 0; n < 4; n++) await turn();
    }
  };
  const states = async (id: string) => (await store.measures.readMailboxes([id]))[0]?.states ?? [];
  const end = async () => {
    stop.abort();
    await Promise.all(running);
    await store.close();
    time[Symbol.dispose]();
  };
  return { store, facts, board, hold, listen, pass, time, states, end };
}

async function recording(use: (rig: Awaited<ReturnType<typeof startRecorder>>) => Promise<void>) {
  const rig = await startRecorder();
  try {
    await use(rig);
  } finally {
    await rig.end();
  }
}

describe("the recorder", () => {
  test("writes one entry for a mailbox that stays as it is, and says every minute that the node is there", () =>
    recording(async ({ store, listen, pass, states }) => {
      const reporter = await listen("a");
      await pass(MINUTE);
      const [first] = await store.measures.listRuns();
      for (let n = 0; n < 40; n++) {
        reporter.markVerified();
        await pass(MINUTE);
      }
      const [run, ...others] = await store.measures.listRuns();
      assert.deepEqual([run?.id, others.length], [first?.id, 0]);
      assert.ok((run?.until ?? 0) - (first?.until ?? 0) >= 39 * MINUTE);
      assert.equal((await states("a")).length, 1);
    }));

  test("keeps the worst of a moment that is over before the next look", () =>
    recording(async ({ listen, pass, states }) => {
      const reporter = await listen("a");
      await pass(20 * MINUTE);
      reporter.markVerified();
      reporter.setStatus("throttled", null);
      reporter.setStatus("listening", null);
      await pass(10_000);
      const { worst, last } = (await states("a")).at(-1) ?? {};
      assert.deepEqual([worst, last], ["throttled", "listening"]);
    }));

  test("says not verified when the server has not answered for too long, and of a mailbox that begins for long too", () =>
    recording(async ({ hold, listen, pass, states }) => {
      await listen("a");
      await hold("b");
      await pass(MINUTE);
      assert.equal((await states("a")).at(-1)?.last, "listening");
      assert.deepEqual(await states("b"), [], "it has only just begun");
      await pass(10 * MINUTE);
      assert.equal((await states("a")).at(-1)?.last, "unverified");
      assert.equal((await states("b")).at(-1)?.last, "initializing");
    }));

  test("says when a mailbox left, unless it is paused, and takes it back", () =>
    recording(async ({ facts, board, listen, pass, states }) => {
      for (const id of ["a", "b"]) await listen(id);
      await pass(MINUTE);
      board.forget("a");
      board.forget("b");
      facts.emit({ kind: "mailbox.status", mailbox: "b", status: "paused" });
      await pass(2 * MINUTE);
      assert.equal((await states("a")).at(-1)?.last, "nobody");
      assert.equal((await states("b")).at(-1)?.last, "paused");
    }));

  test("begins a new run after it stood still, so that the time between is known to nobody", () =>
    recording(async ({ store, listen, pass, states, time }) => {
      const reporter = await listen("a");
      await pass(MINUTE);
      await time.advance(HOUR);
      reporter.markVerified();
      await pass(2 * MINUTE);
      const runs = await store.measures.listRuns();
      assert.equal(runs.length, 2);
      const ticks = ticksOf({
        states: await states("a"),
        runs: new Map(runs.map((run) => [run.id, run])),
        pausedSince: null,
        now: Date.now() + HOUR + 3 * MINUTE,
      });
      assert.deepEqual(ticks.slice(-4, -2), ["nobody", "nobody"]);
    }));

  test("counts deliveries with their latency, and what is listened to, in the period where they were", () =>
    recording(async ({ store, facts, listen, pass }) => {
      await listen("a");
      const delivered = {
        kind: "mail.delivered",
        mailbox: "a",
        delivery: "d",
        folder: "INBOX",
        uid: 1,
        bytes: 1,
        ms: 9,
      } as const;
      facts.emit({ ...delivered, seenMs: 40, attempts: 1 });
      facts.emit({ ...delivered, attempts: 1 });
      await pass(2 * MINUTE);
      const sums = new Map<string, number>();
      for (const { values } of await store.measures.readPeriods(0))
        for (const [name, n] of values)
          sums.set(
            name.replace(/:.*/, (all) => (name.startsWith("listening") ? "" : all)),
            n,
          );
      assert.equal(sums.get("delivered"), 2);
      assert.equal(sums.get(latencyName(40)), 1);
      assert.equal(Math.floor((sums.get("listening") ?? 0) / 1000), 1);
      assert.equal((await store.measures.readMailboxes(["a"]))[0]?.latencyMs, 40);
    }));
});

const DELIVERED = { delivery: "d", folder: "INBOX", uid: 1, bytes: 1, ms: 9, seenMs: 9, attempts: 1 };

describe("the counts of deliveries", () => {
  test("are written once in a while also under load, and what a store did not take is reported once", async () => {
    using time = movableClock();
    const facts = factStream();
    const failed: string[] = [];
    facts.subscribe((fact) => fact.kind === "service.failed" && failed.push(fact.what));
    const written: number[] = [];
    let isAway = false;
    const deliver = (mailbox: string) => facts.emit({ kind: "mail.delivered", mailbox, ...DELIVERED });
    const count = async ({ add, latencies }: Tally) => {
      if (isAway) throw new Error("no store");
      written.push(add["delivered"] ?? 0);
      assert.ok(latencies.length <= 1_000);
      // The load goes on while the store writes.
      if (written.length < 1_000) deliver("a");
    };
    const stop = new AbortController();
    const running = tallies({ facts, count }).run(stop.signal);
    const pass = async () => {
      await time.advance(10_000);
      for (let n = 0; n < 50; n++) await turn();
    };
    for (let n = 0; n < 2_500; n++) deliver(`m${n}`);
    await pass();
    assert.deepEqual(written, [2_500, 0, 0], "one write of the counts, and the latencies in batches");
    await pass();
    assert.deepEqual(written.slice(3), [3]);
    isAway = true;
    for (let n = 0; n < 3; n++) {
      deliver("a");
      await pass();
    }
    assert.deepEqual(failed, ["writing the counts of deliveries"]);
    stop.abort();
    await running;
  });
});

describe("the pages", () => {
  test("of 50 mailboxes that change all the time are small, and numbers have their lines", async () => {
    const node = await startApi();
    try {
      const now = Date.now();
      const states = ["throttled", "listening", "needs_attention", "paused", "unverified"] as const;
      const { measures } = node.store;
      const ids = Array.from({ length: 50 }, (_, n) => `m${n}`);
      for (const id of ids) await node.call("PUT", `/api/v1/mailboxes/${id}`, exampleBody({ address: `${id}@x.de` }));
      const run = { id: "run--1", node: "here", from: now - 24 * HOUR, until: now };
      for (let ago = 95; ago >= 0; ago--) {
        const tick = Math.floor(now / TICK_MS) - ago;
        const reports = ids.map((mailbox, n) => {
          const worst = states[(ago * (n + 1)) % states.length] ?? "listening";
          return { mailbox, tick, minute: 1, worst, last: "listening" as const };
        });
        await measures.record(run, reports);
      }
      await measures.count({
        at: periodOf(now) - 5 * MINUTE,
        add: { delivered: 50 },
        set: { parked: 3 },
        latencies: [{ mailbox: "m1", ms: 123 }],
      });
      const list = await compressed(node.url, "/mailboxes");
      assert.ok(list.bytes <= MAX_PAGE_BYTES, `${list.bytes}`);
      assert.equal(list.text.match(/<svg[^>]*class="day"/g)?.length, 50);
      assert.match(list.text, /Last 24 h, 15 min per tick/);
      assert.match(list.text, /123 ms/);
      assert.ok(!/ style=/.test(list.text));
      const first = await compressed(node.url, "/");
      assert.ok(first.bytes <= MAX_PAGE_BYTES);
      assert.equal(first.text.match(/class="line"/g)?.length, 5);
      assert.match(first.text, /Delivered per minute, last 6 h: between 10 and 10, 10 at the end/);
      assert.match(first.text, /Parked, last 6 h: between 3 and 3/);
    } finally {
      await node.close();
    }
  });

  test("list mailboxes by state and by last mail, page by page, also with a filter", async () => {
    const node = await startApi();
    try {
      const ids = Array.from({ length: 120 }, (_, n) => `m${100 + n}`);
      for (const id of ids) await node.call("PUT", `/api/v1/mailboxes/${id}`, exampleBody({ address: `${id}@x.de` }));
      const state = { ...initialState({ paused: false }), node: "here" };
      await node.store.mailboxes.saveStates(
        ids.map((id, n) => ({
          id,
          revision: 1,
          state: {
            ...state,
            status: n === 119 ? "throttled" : "listening",
            lastArrivalAt: n % 2 === 0 ? new Date(Date.UTC(2026, 10, 1, 0, n)).toISOString() : null,
          },
        })),
      );
      const all = async (path: string) => {
        const found: string[] = [];
        for (let next: string | undefined = path; next !== undefined;) {
          const { text, status } = await node.call("GET", next);
          assert.equal(status, 200);
          found.push(...[...text.matchAll(/href="\/mailboxes\/(m\d+)"/g)].map(([, id = ""]) => id));
          next = /href="([^"]+)">Next page/.exec(text)?.[1]?.replaceAll("&amp;", "&");
        }
        return found;
      };
      const byMail = await all("/mailboxes?sort=lastMail");
      assert.deepEqual([byMail.length, byMail[0], byMail[59], byMail[60]], [120, "m218", "m100", "m219"]);
      const byState = await all("/mailboxes?sort=state");
      assert.deepEqual([byState.length, byState[0], byState[1]], [120, "m219", "m100"]);
      assert.deepEqual(await all("/mailboxes?sort=state&q=m21"), ["m219", ...ids.slice(110, 119)]);
      assert.equal((await all("/mailboxes?sort=lastMail&state=throttled")).join(), "m219");
      assert.equal((await all("/mailboxes?sort=none")).length, 120);
    } finally {
      await node.close();
    }
  });

  test("show nothing of others to a token with a prefix", async () => {
    const node = await startApi();
    try {
      const made = { name: "other", scopes: ["read"], mailboxPrefix: "other-" };
      const { body } = await node.call("POST", "/api/v1/tokens", made);
      const login = await fetch(`${node.url}/login`, {
        method: "POST",
        redirect: "manual",
        body: new URLSearchParams({ token: body.token }),
      });
      const cookie = login.headers.get("set-cookie")?.split(";")[0] ?? "";
      await node.call("PUT", "/api/v1/mailboxes/other-1", exampleBody({ address: "o@x.de" }));
      const page = await fetch(`${node.url}/`, { headers: { cookie } });
      const text = await page.text();
      assert.equal(page.status, 200);
      assert.ok(!text.includes('class="line"'), "the lines count the mailboxes of all");
      const list = await (await fetch(`${node.url}/mailboxes`, { headers: { cookie } })).text();
      assert.match(list, /no record 24 h/);
      assert.ok(!list.includes("Sort by"), "the store has an order of all mailboxes only");
      assert.equal((await fetch(`${node.url}/mailboxes?sort=state`, { headers: { cookie } })).status, 200);
    } finally {
      await node.close();
    }
  });
});

/** A page as a browser gets it, with its size on the way. */
async function compressed(url: string, path: string): Promise<{ text: string; bytes: number }> {
  const answer = await fetch(url + path, { headers: { "accept-encoding": "gzip" } });
  assert.equal(answer.headers.get("content-encoding"), "gzip");
  const text = await answer.text();
  return { text, bytes: gzipSync(text).length };
}

describe("in a browser", () => {
  test("a server that stopped and a node that was killed are seen in the bar, in its shape and in its words", async (t) => {
    const chromium = await browserOnBun();
    if (!chromium) return t.skip(noBrowser());
    const stage = await scene();
    const context = await chromium.browser.newContext();
    context.setDefaultTimeout(120_000);
    try {
      const { id } = await stage.mailbox({ user: "shop" });
      const path = `/mailboxes/${id}`;
      const page = await context.newPage();
      const words = async () => (await page.locator(".day-of").textContent()) ?? "";
      const show = async (where: string) => page.goto(stage.service.url + where);
      await show("/login");
      await page.getByLabel("Token").fill(TOKEN);
      await page.getByRole("button", { name: "Log in" }).click();
      await page.waitForURL((url) => url.pathname === "/");
      await show(path);
      await eventually(
        async () => /State of the last 24 h.*listening 15 min/.test(await words()),
        "a good tick",
        90_000,
      );
      assert.ok((await page.locator(".day path.good").count()) > 0);

      await stage.mail.stop();
      await eventually(async () => /reconnecting 15 min/.test(await words()), "the worst of the tick", 90_000);
      assert.ok((await page.locator(".day path.warn").count()) > 0);
      await stage.mail.start();
      await stage.service.until(
        "listening",
        async () => (await stage.service.call("GET", `/api/v1${path}`)).body.state.status === "listening",
      );

      await stage.service.kill();
      setBack(join(stage.service.dataDir, "email-listener.db"), 2 * HOUR);
      await stage.service.start();
      await show(path);
      await page.getByText(/State of the last 24 h.*nobody was there (1 h 45|2 h)/).waitFor();
      assert.ok((await page.locator(".day path.off").count()) > 0);
      await show("/mailboxes");
      await page.locator(".words", { hasText: /nobody was there (1 h 45|2 h)/ }).waitFor();
      for (const where of [path, "/mailboxes", "/"])
        assert.deepEqual(await axeFindings(page, stage.service.url + where), []);
    } finally {
      await context.close();
      await chromium.remove();
      await stage.end();
    }
  });
});

/** The stored history as if the node had been dead for `ms` by now. */
function setBack(file: string, ms: number): void {
  const db = new DatabaseSync(file);
  db.prepare("update node_runs set from_at = from_at - ?, until_at = until_at - ?").run(ms, ms);
  for (const { mailbox, states } of db.prepare("select mailbox, states from measured").all()) {
    const earlier = decodeEntries(String(states)).map(({ run, tick, ...entry }) => {
      return encodeReport({ ...entry, tick: tick - ms / TICK_MS }) + run;
    });
    db.prepare("update measured set states = ? where mailbox = ?").run(earlier.join(""), mailbox ?? null);
  }
  db.close();
}

/** What axe finds in light, dark and forced colours. */
async function axeFindings(page: Page, url: string): Promise<string[]> {
  const found: string[] = [];
  for (const media of [
    { colorScheme: "light", forcedColors: "none" },
    { colorScheme: "dark" },
    { colorScheme: "light", forcedColors: "active" },
  ] as const) {
    await page.emulateMedia(media);
    await page.goto(url);
    await page.evaluate(axe.source);
    const { violations } = await page.evaluate(() => (globalThis as unknown as { axe: typeof axe }).axe.run());
    found.push(
      ...violations.flatMap(({ id, nodes }) => nodes.map(({ html }) => `${url} ${id}: ${html.slice(0, 200)}`)),
    );
  }
  return found;
}
