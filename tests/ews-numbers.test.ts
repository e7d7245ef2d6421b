/**
 * Numbers of Exchange messages, whatever happens between: messages that come, change and go, crashes between handing over and keeping the
 * cursor, sync states that become invalid. No message is lost, none has two numbers, no number means two messages.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import * as fc from "fast-check";
import type { Cursor, MessageRef } from "../shared/contract/message.ts";
import { reconcile } from "../shared/mail/ews/sync/reconcile.ts";
import { type EwsSession, openEws } from "../shared/mail/ews/client/session.ts";
import { applyAfterDelivery } from "../shared/mail/ews/items/after-delivery.ts";
import { type Numbering, planSteps } from "../shared/mail/numbered-steps.ts";
import { PASSWORD } from "./bodies.ts";
import { depsFor, exchangeMailboxOn } from "./promises/mailbox-rig.ts";
import { type Exchange, startExchange } from "./servers/exchange/server.ts";
import { numbered } from "./servers/mail.ts";

type Step =
  | { kind: "come"; count: number }
  | { kind: "go" | "read"; which: number }
  | { kind: "invalid" }
  /** Hands over so many arrivals; of the last one the cursor is not kept. */
  | { kind: "look"; arrivals: number };

const steps = fc.array(
  fc.oneof(
    { weight: 3, arbitrary: fc.record({ kind: fc.constant("come" as const), count: fc.integer({ min: 1, max: 4 }) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constantFrom("go" as const, "read" as const), which: fc.nat(50) }) },
    { weight: 1, arbitrary: fc.constant({ kind: "invalid" as const }) },
    {
      weight: 4,
      arbitrary: fc.record({ kind: fc.constant("look" as const), arrivals: fc.integer({ min: 1, max: 4 }) }),
    },
  ),
  { minLength: 3, maxLength: 25 },
);

let server: Exchange;
let users = 0;
before(async () => {
  server = await startExchange();
});
after(() => server.stop());

/** A folder of a user that is looked at as a subscription would, with what was handed over so far. */
async function story() {
  const address = `numbers${++users}@example.com`;
  await server.addUser(address, PASSWORD);
  const mailbox = exchangeMailboxOn(server, address, { since: "2001-01-01" });
  const signal = AbortSignal.timeout(60_000);
  const session: EwsSession = await openEws(depsFor(), mailbox, signal);
  const place = { session, mailbox, path: "INBOX", folder: session.folder("inbox"), start: 0 };
  const handed: MessageRef[] = [];
  const passed = new Set<string>();
  let cursor: Cursor | undefined;
  let number = 0;
  const there = () => server.items(address, "inbox");
  return {
    session,
    there,
    handed,
    async look(arrivals: number) {
      let left = arrivals;
      for await (const arrival of reconcile(place, cursor, () => undefined, signal)) {
        for (const { key = "" } of arrival.messages) assert.ok(!passed.has(key), "handed over behind its cursor");
        handed.push(...arrival.messages);
        left -= 1;
        if (left === 0) return;
        cursor = arrival.cursor;
        for (const { key = "" } of arrival.messages) passed.add(key);
      }
    },
    async take(step: Exclude<Step, { kind: "look" }>) {
      if (step.kind === "invalid") return server.invalidateSyncStates();
      if (step.kind === "come") {
        for (let left = step.count; left > 0; left -= 1) await server.append(address, "inbox", numbered(++number));
        return;
      }
      const items = there();
      const item = items[step.which % Math.max(1, items.length)];
      if (!item) return;
      if (step.kind === "go") return server.remove(address, item.id);
      const ref = { folder: "INBOX", epoch: "ews", uid: 1, size: 0, receivedAt: "", key: item.id };
      await applyAfterDelivery(
        { session, folder: () => Promise.reject(new Error("not moved")) },
        [ref],
        "markRead",
        signal,
      );
    },
  };
}

/** Each of `values` goes with one of the others only. */
function oneToOne(pairs: [string, string][], what: string): void {
  const seen = new Map<string, string>();
  for (const [one, other] of pairs) {
    assert.equal(seen.get(one) ?? other, other, what);
    seen.set(one, other);
  }
}

const stepsTo = (at: Numbering, key: string) => [...planSteps(at, [{ key, receivedAt: 0, size: 1 }], 10)];

test("a message that is not listed when the cursor passes its number gets another one when it is back, as perhaps known", () => {
  const [counted] = stepsTo({ uid: 0, newest: "", known: new Map() }, "a");
  assert.ok(counted && counted.items.length === 0, "its number is stored, and it is not handed over");
  const passed = stepsTo(counted.at, "b").at(-1);
  assert.ok(passed);
  const [back] = stepsTo(passed.at, "a").flatMap(({ items }) => items);
  assert.deepEqual([back?.key, back?.uid, back?.perhapsKnown], ["a", passed.at.uid + 1, true]);
});

test("a state that becomes invalid before a folder was read to its end loses none of the old messages", async () => {
  const address = `numbers${++users}@example.com`;
  await server.addUser(address, PASSWORD);
  const receivedAt = new Date(Date.now() - 30 * 24 * 3_600_000);
  for (let one = 1; one <= 600; one += 1) await server.append(address, "inbox", numbered(one), { receivedAt });
  const mailbox = exchangeMailboxOn(server, address, { since: "2001-01-01" });
  const signal = AbortSignal.timeout(60_000);
  const session = await openEws(depsFor(), mailbox, signal);
  const place = { session, mailbox, path: "INBOX", folder: session.folder("inbox"), start: 0 };
  const handed = new Set<string>();
  let cursor: Cursor | undefined;
  for await (const arrival of reconcile(place, cursor, () => undefined, signal)) {
    for (const { key = "" } of arrival.messages) handed.add(key);
    cursor = arrival.cursor;
    // The server's first page was handed over, and there are more.
    if (handed.size >= 512) break;
  }
  assert.equal(handed.size, 512);
  server.invalidateSyncStates();
  for await (const { messages } of reconcile(place, cursor, () => undefined, signal))
    for (const { key = "" } of messages) handed.add(key);
  assert.equal(handed.size, 600);
  await session.close();
});

test("no message is lost, none has two numbers in an epoch, and no number means two messages", async () => {
  await fc.assert(
    fc.asyncProperty(steps, async (list) => {
      const it = await story();
      for (const step of list) await (step.kind === "look" ? it.look(step.arrivals) : it.take(step));
      await it.look(Infinity);
      const handed = new Set(it.handed.map(({ key }) => key));
      for (const { id } of it.there()) assert.ok(handed.has(id), "lost");
      const named = it.handed.map(({ epoch, uid, key }): [string, string, string] => [epoch, String(uid), key ?? ""]);
      oneToOne(
        named.map(([epoch, uid, key]) => [`${epoch} ${uid}`, key]),
        "a number means two messages",
      );
      oneToOne(
        named.map(([epoch, uid, key]) => [`${epoch} ${key}`, uid]),
        "a message has two numbers",
      );
      await it.session.close();
    }),
    { numRuns: 60 },
  );
});
