/** What every store promises about the measured history: the worst of a tick wins, it stays small, and it forgets by itself. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type StateReport, type TickState, tickOf } from "../../shared/store/measured/state-entries.ts";
import type { MailboxStatus } from "../../shared/contract/mailbox.ts";
import type { MailboxOrder } from "../../shared/store/measured/mailbox-order.ts";
import { initialState, type Store } from "../../shared/store/store.ts";
import { latencyName, PERIOD_MS, percentile95, periodOf } from "../../shared/telemetry/tallies.ts";
import { mailboxOf } from "./samples.ts";
import { type NewStore, withStore } from "./stores.ts";

const HOUR = 3_600_000;

/** A store with two mailboxes, and a report about one of them in the tick that began so many ticks ago. */
async function measuring(make: NewStore, use: (store: Store, tools: ReturnType<typeof toolsOf>) => Promise<void>) {
  await withStore(make, async (store) => {
    for (const id of ["a", "b"]) await store.mailboxes.put(mailboxOf(id));
    await use(store, toolsOf(store));
  });
}

function toolsOf({ measures }: Store) {
  const now = Date.now();
  const thisTick = tickOf(now).tick;
  const run = (id: string, more = {}) => ({ id, node: `node of ${id}`, from: now - HOUR, until: now, ...more });
  const report = (ago: number, minute: number, worst: TickState, last = worst, mailbox = "a"): StateReport => ({
    mailbox,
    tick: thisTick - ago,
    minute,
    worst,
    last,
  });
  const tell = (id: string, ...reports: StateReport[]) => measures.record(run(id), reports);
  const entries = async (mailbox = "a") => (await measures.readMailboxes([mailbox]))[0]?.states ?? [];
  return { now, thisTick, run, report, tell, entries };
}

const timeAt = (minute: number) => new Date(Date.UTC(2026, 10, 30, 12, minute)).toISOString();

export function measurePromises(make: NewStore): void {
  test("what is known of a connection is what was written last, and goes with its mailbox", () =>
    measuring(make, async ({ connections, mailboxes }) => {
      const facts = {
        server: "One 1.0",
        capabilities: ["IDLE", "MOVE"],
        tls: { version: "TLSv1.3", certificateEndsAt: timeAt(5) },
        token: { endsAt: timeAt(3), renewsAt: timeAt(2) },
        since: timeAt(0),
      };
      assert.equal(await connections.read("a"), undefined);
      const other = { ...facts, server: null, tls: null, token: null, capabilities: [] };
      await connections.save([{ mailbox: "a", facts: other }]);
      await connections.save(["a", "b", "nobody"].map((mailbox) => ({ mailbox, facts })));
      assert.deepEqual(await connections.read("a"), facts);
      assert.equal(await connections.read("nobody"), undefined);
      await connections.save([{ mailbox: "b", facts: other }]);
      assert.deepEqual(await connections.read("b"), other);
      await mailboxes.remove("a");
      assert.equal(await connections.read("a"), undefined);
      await mailboxes.put(mailboxOf("a"));
      assert.equal(await connections.read("a"), undefined);
      await connections.save([]);
    }));

  test("a mailbox without a report has no history, and one report is one entry", () =>
    measuring(make, async ({ measures }, { tell, report, entries, thisTick }) => {
      const none = { states: [], latencyMs: null };
      assert.deepEqual(await measures.readMailboxes(["a", "b", "none"]), [none, none, none]);
      assert.deepEqual(await measures.readMailboxes([]), []);
      await tell("run--1", report(3, 4, "listening"), report(2, 0, "paused", "paused", "b"));
      const listening = { tick: thisTick - 3, minute: 4, worst: "listening", last: "listening", run: "run--1" };
      assert.deepEqual(await entries(), [listening]);
      assert.equal((await entries("b"))[0]?.last, "paused");
    }));

  test("of one tick the worst state and the last one are kept, in whatever order they come", () =>
    measuring(make, async (_store, { tell, report, entries }) => {
      await tell("run--1", report(1, 2, "listening"));
      await tell("run--1", report(1, 5, "reconnecting", "listening"), report(1, 6, "throttled", "listening"));
      await tell("run--1", report(0, 0, "needs_attention"));
      const found = (await entries()).map(({ minute, worst, last }) => [minute, worst, last]);
      assert.deepEqual(found, [
        [2, "reconnecting", "listening"],
        [0, "needs_attention", "needs_attention"],
      ]);
    }));

  test("a run that leaves a mailbox says so only of what no other run has taken, and a gap of minutes is seen", () =>
    measuring(make, async (_store, { tell, report, entries }) => {
      const left = (ago: number, minute: number) => report(ago, minute, "syncing", "nobody");
      await tell("run--1", left(3, 1));
      assert.deepEqual(await entries(), [], "it never had the mailbox");
      await tell("run--1", report(3, 0, "listening"));
      await tell("run--2", report(3, 8, "listening"));
      await tell("run--1", left(3, 9));
      assert.deepEqual(
        (await entries()).map(({ run, minute, last }) => [run, minute, last]),
        [["run--2", 8, "listening"]],
      );
      await tell("run--2", left(2, 3));
      await tell("run--3", report(2, 4, "listening"));
      assert.equal((await entries()).at(-1)?.worst, "listening", "another run took it at once");
      await tell("run--3", left(1, 3));
      assert.equal((await entries()).at(-1)?.last, "nobody");
      await tell("run--1", report(1, 9, "listening"));
      const { worst, last, minute } = (await entries()).at(-1) ?? {};
      assert.deepEqual([worst, last, minute], ["nobody", "listening", 9]);
    }));

  test("late news of an older tick changes nothing, and what is over a day old is dropped but for how the day began", () =>
    measuring(make, async (_store, { tell, report, entries, thisTick }) => {
      await tell("run--1", report(130, 0, "listening"), report(120, 0, "throttled"), report(100, 0, "listening"));
      await tell("run--1", report(50, 0, "reconnecting", "listening"));
      await tell("run--1", report(60, 0, "needs_attention"));
      assert.deepEqual(
        (await entries()).map(({ tick, worst }) => [thisTick - tick, worst]),
        [
          [100, "listening"],
          [50, "reconnecting"],
        ],
      );
    }));

  test("a mailbox that changes all the time has an entry for each tick of a day at most", () =>
    measuring(make, async (_store, { tell, report, entries }) => {
      for (let ago = 200; ago >= 0; ago--)
        await tell("run--1", report(ago, 1, "reconnecting"), report(ago, 9, "reconnecting", "listening"));
      assert.equal((await entries()).length, 97);
    }));

  test("many mailboxes are reported at once, those that are gone are ignored, and a removal takes the history along", () =>
    measuring(make, async ({ mailboxes, measures }, { tell, report, entries, now }) => {
      const ids = Array.from({ length: 1_200 }, (_, n) => `many-${n}`);
      for (const id of ids.slice(0, 3)) await mailboxes.put(mailboxOf(id));
      await tell("run--1", ...ids.map((id) => report(0, 0, "listening", "listening", id)), report(0, 0, "throttled"));
      await measures.count({ at: periodOf(now), add: {}, set: {}, latencies: [{ mailbox: "a", ms: 7 }] });
      await measures.count({ at: periodOf(now), add: {}, set: {}, latencies: [{ mailbox: "many-9", ms: 7 }] });
      const lengths = (await measures.readMailboxes(["many-1", "many-9", "a"])).map(({ states }) => states.length);
      assert.deepEqual(lengths, [1, 0, 1]);
      await mailboxes.remove("a");
      assert.deepEqual(await entries(), []);
      await mailboxes.put(mailboxOf("a"));
      const none = { states: [], latencyMs: null };
      assert.deepEqual(await measures.readMailboxes(["a", "many-9"]), [none, none]);
    }));

  test("runs of nodes are known until a day after their end", () =>
    measuring(make, async ({ measures }, { run, now }) => {
      const old = run("run--0", { from: now - 60 * HOUR, until: now - 26 * HOUR });
      const [long, short] = [run("run--1", { from: now - 90 * HOUR }), run("run--2", { node: "a node with blanks" })];
      for (const one of [old, short, long, { ...long, until: now + 1 }]) await measures.record(one, []);
      assert.deepEqual(await measures.listRuns(), [{ ...long, until: now + 1 }, short]);
    }));

  test("counts of all nodes are added, others are set, and both are forgotten after a day", () =>
    measuring(make, async ({ measures }, { now }) => {
      const at = periodOf(now);
      const day = 24 * HOUR;
      const count = (when: number, add: Record<string, number>, set: Record<string, number> = {}) =>
        measures.count({ at: when, add, set, latencies: [] });
      await count(at - 2 * day, { delivered: 1 });
      await count(at - 2 * PERIOD_MS, { delivered: 2 });
      await count(at, { delivered: 3, [latencyName(40)]: 3 }, { waiting: 9 });
      await count(at, { delivered: 4, [latencyName(900)]: 1 }, { waiting: 2 });
      const found = await measures.readPeriods(now - 3 * day);
      assert.deepEqual(
        found.map((period) => [period.at, period.values.get("delivered"), period.values.get("waiting")]),
        [
          [at - 2 * PERIOD_MS, 2, undefined],
          [at, 7, 2],
        ],
      );
      const p95 = percentile95(found.map(({ values }) => values)) ?? 0;
      assert.ok(p95 >= 900 && p95 <= 945, `${p95}`);
      assert.deepEqual(await measures.readPeriods(at + 1), []);
    }));

  test("the latency of a mailbox is that of its last message", () =>
    measuring(make, async ({ measures }, { now }) => {
      const tell = (ms: number) =>
        measures.count({ at: periodOf(now), add: {}, set: {}, latencies: [{ mailbox: "a", ms }] });
      await tell(12.4);
      await tell(80);
      assert.deepEqual(
        (await measures.readMailboxes(["b", "a"])).map(({ latencyMs }) => latencyMs),
        [null, 80],
      );
    }));

  test("mailboxes are listed by their state and by their last mail, page by page", () =>
    withStore(make, async ({ mailboxes, orderedMailboxes }) => {
      const states = [
        { id: "a", status: "listening", lastArrivalAt: timeAt(1) },
        { id: "b", status: "throttled", lastArrivalAt: null },
        { id: "c", status: "needs_attention", lastArrivalAt: timeAt(3) },
        { id: "d", status: "listening", lastArrivalAt: timeAt(3) },
        { id: "e", status: "paused", lastArrivalAt: null },
        { id: "f", status: "reconnecting", lastArrivalAt: timeAt(2) },
      ] as const;
      for (const { id } of states) await mailboxes.put(mailboxOf(id));
      const save = (changes: readonly { id: string; lastArrivalAt: string | null; status: MailboxStatus }[]) =>
        mailboxes.saveStates(
          changes.map(({ id, ...more }) => ({
            id,
            revision: 1,
            state: { ...initialState({ paused: false }), ...more },
          })),
        );
      await save(states);
      const all = async (order: MailboxOrder, limit: number) => {
        const ids: string[] = [];
        for (let after: string | undefined; ;) {
          const page = await orderedMailboxes.list({ order, limit, ...(after !== undefined && { after }) });
          ids.push(...page.map(({ id }) => id));
          after = page.at(-1)?.place;
          if (page.length < limit || after === undefined) return ids.join("");
        }
      };
      for (const limit of [1, 2, 3, 4, 10]) {
        assert.equal(await all("state", limit), "cfbade", `${limit}`);
        assert.equal(await all("lastMail", limit), "dcfaeb", `${limit}`);
      }
      await save([{ id: "e", status: "paused", lastArrivalAt: timeAt(9) }]);
      await mailboxes.remove("c");
      await mailboxes.put(mailboxOf("g"), { ...initialState({ paused: false }), lastArrivalAt: timeAt(8) });
      assert.equal(await all("lastMail", 2), "egdfab");
      await mailboxes.put(mailboxOf("g", { revision: 1 }), initialState({ paused: true }));
      assert.equal(await all("lastMail", 3), "edfagb");
      assert.equal(await all("state", 3), "fbadeg");
      await assert.rejects(orderedMailboxes.list({ order: "state", limit: 1, after: "x" }), { code: "invalid" });
    }));
}
