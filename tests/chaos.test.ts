/** Two minutes of everything going wrong: all mail arrives, each message under one id. `bun run chaos` does it for longer. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { chaos } from "./chaos/chaos.ts";
import { broken, table } from "./chaos/report.ts";

test("whatever fails, every message arrives under one delivery id", async (t) => {
  if (!("bun" in process.versions)) return t.skip("chaos takes two minutes and runs on Bun only");
  const outcome = await chaos({ seed: 3, seconds: 80, mailboxes: 20, say: () => undefined });
  if (!outcome) return t.skip("a server is missing");
  const failures = broken(outcome);
  if (failures.length > 0) console.log(`${table(outcome, "Chaos")}\n${outcome.log}`);
  assert.deepEqual(failures, []);
});
