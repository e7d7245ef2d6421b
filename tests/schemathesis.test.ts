/** Schemathesis, which nobody here wrote, makes requests that the OpenAPI document allows and forbids, and is content with the answers. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { findSchemathesis, runSchemathesis } from "./tools/schemathesis.ts";

/** The examples and the edges of each schema. They need a tenth of it where nothing else runs. */
const SECONDS = 120;
/** The same requests each time. `bun run schemathesis` also makes random ones. */
const SEED = 1;

test("the service answers as its OpenAPI document says", { timeout: 900_000 }, async (t) => {
  const program = await findSchemathesis().catch((error: unknown) => {
    if (process.env["TESTS_MUST_NOT_SKIP"]) throw error;
    console.log(`Skipped: Schemathesis is not here: ${error instanceof Error ? error.message : String(error)}`);
    return undefined;
  });
  if (program === undefined) return t.skip("no Schemathesis");
  const output = await runSchemathesis(program, { phases: "examples,coverage", seconds: SECONDS, seed: SEED });
  const [, generated = "0"] = /(\d+) generated, \d+ passed/.exec(output) ?? [];
  assert.ok(Number(generated) > 500, output);
});
