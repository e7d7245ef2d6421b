/** Proves that the fake Graph server is honest: a client of Graph that nobody here wrote is content with it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { check, pythonOf } from "./servers/graph/clients/check.ts";

test("O365, which nobody here wrote, is content with the fake Graph server", { timeout: 900_000 }, async (t) => {
  const python = await pythonOf("O365").catch((error: unknown) => {
    if (process.env["TESTS_MUST_NOT_SKIP"]) throw error;
    console.log(`Skipped: O365 is not here: ${error instanceof Error ? error.message : String(error)}`);
    return undefined;
  });
  if (python === undefined) return t.skip("no O365");
  assert.match(await check("O365", python), /O365 is content/);
});
