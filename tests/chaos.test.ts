/** Everything goes wrong for a while: all mail arrives, each message under one id, and nobody gets a mail twice. `bun run chaos` does it for longer. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { chaos, type ChaosOptions } from "./chaos/chaos.ts";
import { broken, table } from "./chaos/report.ts";

type TestContext = { skip(message?: string): void };

async function keepsItsPromises(t: TestContext, options: Omit<ChaosOptions, "say">): Promise<void> {
  const outcome = await chaos({ ...options, say: () => undefined });
  if (!outcome) return t.skip("a server is missing");
  const failures = broken(outcome);
  if (failures.length > 0) console.log(`${table(outcome, "Chaos")}\n${outcome.log}`);
  assert.deepEqual(failures, []);
}

test("whatever fails, every message arrives under one delivery id, and what is sent is sent once", (t) =>
  keepsItsPromises(t, { seed: 3, seconds: 80, mailboxes: 20 }));

test("the same over Redis alone", (t) =>
  keepsItsPromises(t, { seed: 11, seconds: 50, mailboxes: 15, withoutBroker: true }));
